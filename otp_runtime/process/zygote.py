"""A zygote's process: imports what it is told, then forks twice for each order. See `process.nursery`."""

from __future__ import annotations

import gc
import importlib
import os
import select
import sys
from typing import Any, NoReturn

from otp_runtime.host import kernel
from otp_runtime.host.box import Box
from otp_runtime.host.directory import NodeDirectory
from otp_runtime.process import boot, current, launcher, shipping, succession
from otp_runtime.process.handle import NodeHandle
from otp_runtime.process.job import Job
from otp_runtime.process.nursery import NUMBER
from otp_runtime.terms.reason import crash_of


def main(argv: list[str]) -> int:
    """Be the zygote `argv[1]` of the node at `argv[0]`, for the OS process `argv[2]` that started at `argv[3]`."""
    path, number_text, pid, start = argv
    number = int(number_text)
    if not kernel.die_with_parent(kernel.OsProcess(int(pid), int(start))):
        return 1
    directory = NodeDirectory(path)
    said = os.open(directory.handover(number, "said"), os.O_WRONLY | os.O_CLOEXEC)
    told = os.open(directory.handover(number, "told"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    name, incarnation, _program = launcher.settle(directory, "otp:zygote")
    node = NodeHandle(directory, name, incarnation)
    voice = boot.Boot(node, said)
    try:
        if not _prepare(node, number):
            voice.say("threads")
            return 1
    except BaseException as error:  # noqa: BLE001 - importing runs a user's code, which may raise anything
        voice.say("error", crash_of(error))
        return 1
    gc.collect()
    gc.freeze()
    voice.say("ready")
    _serve(node, told)
    return 0


def _read_order(node: NodeHandle, number: int) -> dict[str, Any]:
    path = node.directory.handover(number, "order")
    with open(path, "rb") as file:
        order: dict[str, Any] = node.codec.decode(file.read())
    os.unlink(path)
    return order


def _prepare(node: NodeHandle, number: int) -> bool:
    """Import what is to be had ahead; False when that leaves threads: then each child must import it itself."""
    order = _read_order(node, number)
    sys.path[:] = order["path"]
    boot.loading = True
    for name in order["modules"]:
        importlib.import_module(name)
    boot.loading = False
    if os.listdir(node.directory.path / "defs"):
        shipping.load_dill()
    return len(os.listdir("/proc/self/task")) == 1


def _serve(node: NodeHandle, told: int) -> None:
    poll = select.poll()
    poll.register(told, select.POLLIN)
    while True:
        try:
            data = os.read(told, NUMBER.size)
        except BlockingIOError:
            poll.poll()
            continue
        if not data:
            return
        (number,) = NUMBER.unpack(data)
        middle = current.fork_for_child()
        if middle == 0:
            _be_middle(node, number)
        os.waitpid(middle, 0)


def _be_middle(node: NodeHandle, number: int) -> NoReturn:
    """Fork the child, tell of it, end: so it falls to the supervisor, which knows of it by then."""
    status = 1
    try:
        me = os.pidfd_open(os.getpid())
        child = current.fork_for_child()
        if child == 0:
            _be_child(node, number, me)
        said = os.open(node.directory.handover(number, "said"), os.O_WRONLY | os.O_CLOEXEC)
        boot.Boot(node, said).say("born", child)
        status = 0
    finally:
        os._exit(status)


def _be_child(node: NodeHandle, number: int, middle: int) -> NoReturn:
    try:
        # an orphan falls to the supervisor before the end of its parent is told
        poll = select.poll()
        poll.register(middle, select.POLLIN)
        poll.poll()
        order = _read_order(node, number)
        if order["succeeds"]:
            succession.run(node, number, order)
        job = Job.from_term(order["job"])
        box = Box.open(node.directory.box(order["id"]))
        assert box is not None
        said = os.open(node.directory.handover(number, "said"), os.O_WRONLY | os.O_CLOEXEC)
        boot.run_child(node, job, box, kernel.OsProcess(*order["reaper"]), said, _no_supervisor)
    finally:
        os._exit(1)


def _no_supervisor(*_args: Any) -> NoReturn:
    msg = "supervisors are not forked from a zygote"
    raise RuntimeError(msg)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
