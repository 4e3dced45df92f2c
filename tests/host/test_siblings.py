"""A fork whose child is the parent's."""

import ctypes
import os
import threading

import pytest

from otp_runtime.host.siblings import SiblingMaker


@pytest.fixture
def told():
    """What the child of a forked process says, through a pipe: it is this process's child, and is reaped here."""
    reads, writes = os.pipe()
    first = os.fork()
    if first == 0:
        try:
            second = SiblingMaker().fork()
            if second == 0:
                thread = ctypes.CDLL(None).pthread_self
                thread.restype = ctypes.c_void_p
                known = os.getpid() in (ctypes.c_int32 * 512).from_address(thread())
                os.write(writes, repr((os.getpid(), os.getppid(), threading.get_native_id(), known)).encode())
            else:
                os.write(writes, b"")
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(first, 0)
    said = os.read(reads, 4096)
    os.close(reads)
    pid, parent, thread, known = eval(said)  # noqa: S307  # what was written above
    _pid, status = os.waitpid(pid, 0)
    return {"parent": parent, "is main": thread == pid, "known": known, "status": status}


class TestFork:
    def test_the_child_is_the_parents_child(self, told):
        """It is reaped by the process that forked its maker."""
        assert (os.getpid(), 0) == (told["parent"], told["status"])

    def test_python_and_glibc_know_its_thread(self, told):
        """The kernel wrote the new id where glibc keeps it."""
        assert (True, True) == (told["is main"], told["known"])
