"""The program that a `Peer` is: takes part in a node, then runs what it is sent until its pipe ends."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from otp_runtime.errors import RemoteError
from otp_runtime.process.node import Node, attach
from otp_runtime.terms.reason import crash_of
from otp_runtime.testing.peers import dump, load, read_frame, write_frame


def main(requests: int, replies: int, name: str) -> None:
    """Serve until the end of `requests`."""
    for fd in (requests, replies):
        os.set_inheritable(fd, False)
    with contextlib.suppress(EOFError, BrokenPipeError):
        path, node, options = load(read_frame(requests))
        sys.path[:] = path
        _answer(replies, _join, (name, node, options))
        while True:
            function, args = load(read_frame(requests))
            _answer(replies, function, args)


def _join(name: str, node: str | None, options: dict[str, Any]) -> str:
    if node is None:
        Node.start(name, **options)
    else:
        attach(node)
    return Node.self()


def _answer(replies: int, function: Any, args: tuple[Any, ...]) -> None:
    try:
        answer = ("value", function(*args))
    except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
        error.add_note(f"In the program of the peer:\n{crash_of(error).traceback}")
        answer = ("raise", error)
    try:
        data = dump(answer)
        load(data)  # an exception may be picklable and still not loadable
    except Exception as error:  # noqa: BLE001 - what cannot travel is told in words
        crash = crash_of(answer[1] if isinstance(answer[1], BaseException) else error)
        data = dump(("raise", RemoteError(crash.type, crash.message, crash.traceback)))
    write_frame(replies, data)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
