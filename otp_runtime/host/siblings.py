"""A fork whose child is not a child of the one who forks, but of its parent: clone(2) with `CLONE_PARENT`.

So a process that does nothing else can be forked again and again for its parent, who stays the one that reaps. What
glibc's `fork` does beside the system call is done here as well, as far as a process with one thread needs it: the
kernel writes the new thread's id where glibc keeps it (`abort` and robust locks read it there), and Python's own hooks
run, before and after. Not those that forget other threads, which there are none of, and not handlers of
`pthread_atfork`; they are for libraries that have threads.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import sys
import threading
from typing import Any, Final

_CLONE_PARENT: Final = 0x00008000
_CLONE_CHILD_CLEARTID: Final = 0x00200000
_CLONE_CHILD_SETTID: Final = 0x01000000
_FLAGS: Final = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
_SIGCHLD: Final = 17

_CLONE: Final = {"x86_64": (56, 3), "aarch64": (220, 4)}
"""By machine: the number of the call, and which of its arguments behind the flags is the address of the thread's id.

Not clone3, which is the same everywhere: containers commonly refuse it.
"""

_THREAD_WORDS: Final = 512
"""Of how many words of what glibc keeps for a thread the id is looked for among."""


_OF_THREADS: Final = {
    ("threading", "_after_fork"),
    ("otp_runtime.telemetry", "_renew_lock"),
}
"""Hooks that forget other threads, and what those have locked. They are a part of what a new process copies."""

_OF_LOGGING: Final = ("logging", "_after_at_fork_child_reinit_locks")
"""A hook that goes through the locks of all handlers, and frees that of `logging`, which is held during a fork."""


class SiblingMaker:
    """Forks siblings of this process, which must have one thread."""

    def __init__(self) -> None:
        """Look where glibc keeps the thread's id; raises `OSError` where this cannot be done."""
        number, place = _CLONE.get(os.uname().machine, (0, 0))
        id_at = _address_of_thread_id()
        if not number or not id_at:
            msg = "no siblings can be forked on this machine, or with this C library"
            raise OSError(msg)
        # holding Python's lock, as `os.fork` does
        self._python = ctypes.PyDLL(None, use_errno=True)
        self._python.syscall.restype = ctypes.c_long
        for function in ("PyOS_BeforeFork", "PyOS_AfterFork_Child", "PyOS_AfterFork_Parent"):
            getattr(self._python, function).restype = None
        arguments = [ctypes.c_ulong(0)] * 5
        arguments[0] = ctypes.c_ulong(_FLAGS | _SIGCHLD)
        arguments[place] = ctypes.c_ulong(id_at)
        self._arguments = (ctypes.c_long(number), *arguments)
        self._hooks = hooks_in_child()
        self._all_hooks = tuple(self._hooks)
        self._hooks[:] = [
            _free_logging if name == _OF_LOGGING else hook
            for hook in self._hooks
            if (name := (getattr(hook, "__module__", ""), getattr(hook, "__qualname__", ""))) not in _OF_THREADS
        ]

    def fork(self) -> int:
        """As `os.fork`; but the child's parent is this process's."""
        python = self._python
        python.PyOS_BeforeFork()
        pid: int = python.syscall(*self._arguments)
        if pid == 0:
            python.PyOS_AfterFork_Child()
            # the child may have threads, and fork
            self._hooks[:] = self._all_hooks
            return 0
        error = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(error, os.strerror(error))
        return pid


def _free_logging() -> None:
    """Free what Python holds during a fork, without a look at handlers: nobody has locked one."""
    logging._lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001


def _address_of_thread_id() -> int:
    """Find where glibc keeps the id of this thread; 0 when that is not certain."""
    pthread_self = ctypes.CDLL(None).pthread_self
    pthread_self.restype = ctypes.c_void_p
    thread: int = pthread_self()
    number = threading.get_native_id()
    words = (ctypes.c_int32 * _THREAD_WORDS).from_address(thread)
    found = [at for at, word in enumerate(words) if word == number]
    return thread + found[0] * ctypes.sizeof(ctypes.c_int32) if len(found) == 1 else 0


@functools.cache
def hooks_in_child() -> list[Any]:
    """Give the list of what Python calls in the child of a fork, its own one; an empty one where it is not found.

    It is looked for once, among all objects, so the sooner the better: forks of this process know it.
    """
    if sys.version_info >= (3, 12):
        # names and much else are not counted there: it would be no gain
        return []
    hook = threading._after_fork  # type: ignore[attr-defined]  # noqa: SLF001
    # what is frozen is not looked through
    gc.unfreeze()
    lists = [holder for holder in gc.get_referrers(hook) if type(holder) is list]
    return lists[0] if len(lists) == 1 and all(map(callable, lists[0])) else []
