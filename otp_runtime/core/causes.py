"""What an exit reason means, in words: what happened, and where to look next."""

from __future__ import annotations

from typing import Any, Final

from otp_runtime.terms.reason import Crash, Exited, Signalled

__all__ = ["explain"]

_NATIVE: Final = "Look at the native stack for the innermost line of Python, and for the extension module it called."

_SIGNALS: Final = {
    "SIGSEGV": f"a segmentation fault: native code (a C extension, ctypes) used memory that is not its own. {_NATIVE}",
    "SIGBUS": "a bus error: native code used memory that has no place behind it, as a mapped file that was cut short "
    f"or lies on a full disk. {_NATIVE}",
    "SIGABRT": "native code called abort(): it found its own state broken. What it found is in the last lines of "
    f"standard error, such as 'double free or corruption'. {_NATIVE}",
    "SIGFPE": f"native code divided by zero or overflowed in integer arithmetic. {_NATIVE}",
    "SIGILL": "an instruction that this processor does not have: an extension module built for another processor, or "
    f"a jump into nowhere. {_NATIVE}",
    "SIGSYS": f"a system call that a sandbox (seccomp) forbids. {_NATIVE}",
    "SIGKILL": "killed from outside this node, untrappably: kill -9 by somebody, or by a tool such as a container's "
    "runtime. Nothing in the process could react, so there is no stack.",
    "SIGTERM": "asked to end from outside this node (kill, systemd, a container's runtime). Servers are stopped by "
    "their supervisor: stop the program instead.",
    "SIGINT": "interrupted from outside (kill -INT).",
    "SIGHUP": "its terminal went away.",
    "SIGQUIT": "quit from outside (kill -QUIT).",
    "SIGPIPE": "it wrote into a pipe that nobody reads, with SIGPIPE set back to its default.",
    "SIGXCPU": "it used up its CPU time (RLIMIT_CPU).",
    "SIGXFSZ": "it made a file larger than it may (RLIMIT_FSIZE).",
    "SIGALRM": "an alarm that somebody set (signal.alarm, setitimer) and nothing handled.",
    "SIGTRAP": "a breakpoint or assertion in native code, with no debugger attached.",
}
_CODES: Final = {
    0: "it left with os._exit(0), without a word: that it meant to is not known.",
    1: "the code of a Python program that failed, or sys.exit with a text or 1. Look at the last lines of standard "
    "error.",
    2: "the code for wrong usage: a command line that argparse refused, perhaps.",
    126: "the code of a shell for a command that may not be executed.",
    127: "the code of a shell for a command that is not there.",
}
_SHELL_SIGNALS: Final = range(129, 160)
_NAMES: Final = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
}


def explain(reason: Any) -> str | None:
    """Say what an exit reason means, in one or two sentences; None where it speaks for itself.

    >>> explain(Exited(137))
    'code 128 + 9, as a shell leaves when a command was killed by SIGKILL.'
    """
    match reason:
        case Signalled(oom=True):
            return "the kernel's OOM killer took it: its memory cgroup, or the machine, was out of memory."
        case Signalled(name=name):
            return _SIGNALS.get(name)
        case Exited(code=code) if code in _SHELL_SIGNALS:
            name = _NAMES.get(code - 128, f"signal {code - 128}")
            return f"code 128 + {code - 128}, as a shell leaves when a command was killed by {name}."
        case Exited(code=code):
            return _CODES.get(
                code, f"it left with os._exit({code}) or sys.exit({code}), or C code called exit({code})."
            )
        case Crash(type="MemoryError"):
            return "Python was refused memory: by a limit (RLIMIT_AS, a budget), or by a machine that has no more."
        case Crash(type="RecursionError"):
            return "Python calls went too deep: look for the function that repeats in the traceback."
        case ("bad_return_value", *_):
            return "a callback returned what it may not. A match without a case that fits returns None."
        case ("bad_state", *_):
            return "the new state cannot be kept: what stands at this path in it is no data."
        case "killed":
            return "killed by somebody in this node: exit(pid, 'kill'), otp kill, or a supervisor whose patience ended."
        case _:
            return None
