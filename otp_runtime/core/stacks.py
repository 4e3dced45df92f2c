"""What `faulthandler` wrote, read again: which line of whose code a hung server was in.

>>> dump = '''Current thread 0x00007f (most recent call first):
...   File "/lib/queue.py", line 9 in get
...   File "/app/shop.py", line 7 in handle_call
... '''
>>> frames = parse(dump)["Current thread"]
>>> where(frames, ("/lib/",))
'/app/shop.py:7 in handle_call'
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HEAD = re.compile(r"^(?P<who>Current thread|Thread|Callback|Task)\b.*:$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')

CURRENT = "Current thread"
CALLBACK = "Callback"


class Frame(NamedTuple):
    """One line of a stack."""

    file: str
    line: str
    function: str


def parse(dump: str) -> dict[str, list[Frame]]:
    """Give the stacks of a dump, each the newest call first, by the word they begin with; the first of each word."""
    found: dict[str, list[Frame]] = {}
    into: list[Frame] | None = None
    for line in dump.splitlines():
        if head := _HEAD.match(line):
            into = []
            found.setdefault(head["who"], into)
        elif into is not None and (frame := _FRAME.match(line)):
            into.append(Frame(frame["file"], frame["line"], frame["function"]))
    return found


def trim(dump: str, last: tuple[str, ...]) -> str:
    """Leave out of each stack what lies below the first frame of one of these functions ("file.py:name").

    A forked process has the frames of its parent below its own, and those of its parent.
    """
    kept: list[str] = []
    is_below = False
    for line in dump.splitlines():
        frame = _FRAME.match(line)
        if frame is None:
            is_below = False
        if not is_below:
            kept.append(line)
        if frame is not None and f"{frame['file'].rpartition('/')[2]}:{frame['function']}" in last:
            is_below = True
    return "\n".join(kept)


def where(frames: list[Frame], library: tuple[str, ...]) -> str | None:
    """Say where user code is: the newest frame whose file does not begin with one of `library`."""
    for frame in frames:
        if "site-packages" in frame.file or not frame.file.startswith((*library, "<frozen")):
            return f"{frame.file}:{frame.line} in {frame.function}"
    return None


def as_traceback(frames: list[Frame], library: tuple[str, ...]) -> str:
    """Write a stack as Python does, the newest call last, from the oldest call of user code on."""
    while len(frames) > 1 and where(frames[-1:], library) is None:
        frames = frames[:-1]
    lines = [f'  File "{frame.file}", line {frame.line}, in {frame.function}' for frame in reversed(frames)]
    return "\n".join(("Stack when it was killed (most recent call last):", *lines))
