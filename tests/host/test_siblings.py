"""A fork whose child is the parent's."""

import ctypes
import os
import sys
import threading

import pytest

from otp_runtime.host.siblings import SiblingMaker, hooks_in_child


@pytest.fixture
def told():
    """What the child of a forked process says, through a pipe: it is this process's child, and is reaped here."""
    reads, writes = os.pipe()
    first = os.fork()
    if first == 0:
        try:
            os.register_at_fork(after_in_child=lambda: ran.append("a hook"))
            ran = []
            second = SiblingMaker().fork()
            if second == 0:
                thread = ctypes.CDLL(None).pthread_self
                thread.restype = ctypes.c_void_p
                known = os.getpid() in (ctypes.c_int32 * 512).from_address(thread())
                hooks = threading._after_fork in hooks_in_child()
                said = (os.getpid(), os.getppid(), threading.get_native_id(), known, ran, hooks)
                os.write(writes, repr(said).encode())
            else:
                os.write(writes, b"")
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(first, 0)
    said = os.read(reads, 4096)
    os.close(reads)
    pid, parent, thread, known, ran, hooks = eval(said)  # noqa: S307  # what was written above
    _pid, status = os.waitpid(pid, 0)
    return {"parent": parent, "is main": thread == pid, "known": known, "status": status, "ran": ran, "hooks": hooks}


class TestFork:
    def test_the_child_is_the_parents_child(self, told):
        """It is reaped by the process that forked its maker."""
        assert (os.getpid(), 0) == (told["parent"], told["status"])

    def test_python_and_glibc_know_its_thread(self, told):
        """The kernel wrote the new id where glibc keeps it."""
        assert (True, True) == (told["is main"], told["known"])

    def test_hooks_run(self, told):
        """Those of a library that wants to know of a fork."""
        assert told["ran"] == ["a hook"]

    @pytest.mark.skipif(sys.version_info >= (3, 12), reason="all hooks run there")
    def test_the_child_forks_as_others_do(self, told):
        """It has the hooks again that were left out: it may have threads by then."""
        assert told["hooks"]
