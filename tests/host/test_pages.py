"""Which pages a process has to itself, before and after a fork, and having them again."""

import contextlib
import ctypes
import mmap
import os
import signal

import pytest

from otp_runtime.host import pages

COUNT = 64


@pytest.fixture
def memory():
    """Some pages that this process has written."""
    memory = mmap.mmap(-1, COUNT * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    write(memory)
    yield memory
    memory.close()


def write(memory):
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1


def address_of(memory):
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first
    return address


def private_of(memory):
    """How many of its pages are this process's alone."""
    start = address_of(memory)
    runs = [(max(at, start), min(at + length, start + len(memory))) for at, length in pages.private()]
    return sum(end - begin for begin, end in runs if end > begin) // mmap.PAGESIZE


@contextlib.contextmanager
def forked():
    """A fork of this process that shares all and does nothing."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class TestPrivate:
    def test_what_was_written(self, memory):
        """It is this process's alone."""
        assert private_of(memory) == COUNT

    def test_what_a_fork_shares(self, memory):
        """Nothing of it is."""
        with forked():
            assert private_of(memory) == 0

    def test_what_was_written_since(self, memory):
        """It is again."""
        with forked():
            write(memory)

            assert private_of(memory) == COUNT


class TestCopy:
    def test_after_a_fork(self, memory):
        """What was private before is so again, and holds what it held."""
        mine = pages.private()
        with forked():
            pages.copy(mine)

            assert private_of(memory) == COUNT
            assert memory[0] == 1

    def test_memory_that_was_given_back(self, memory):
        """It is passed over."""
        mine = pages.private()
        memory.close()

        assert pages.copy(mine) is None


class TestHotPages:
    def test_copied_after_the_next_fork(self, memory):
        """What was this process's own before."""
        hot = pages.HotPages()
        with forked():
            write(memory)
            hot.learn()
        with forked():
            before = private_of(memory)
            hot.copy()

            assert (before, private_of(memory)) == (0, COUNT)

    def test_learns_a_few_times_only(self, memory):
        """The lessons are alike, and each takes time of a start."""
        hot = pages.HotPages()
        for _ in range(pages.LESSONS):
            hot.learn()
        with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as more:
            write(more)
            hot.learn()
            with forked():
                hot.copy()

                assert private_of(more) == 0


class TestPack:
    def test_a_function_does_what_it_did(self):
        """Its code is another one, and says the same."""
        before = sample.__code__
        pages.pack([f"{__name__}:sample", f"{__name__}:Sample.method", f"{__name__}:Sample.value"])

        assert (True, 3, 4, 5) == (sample.__code__ is not before, sample(1), Sample.method(), Sample().value)

    def test_what_is_not_there_is_passed_over(self):
        """A list may be older than the code."""
        pages.pack(["no_module:function", f"{__name__}:no_function", f"{__name__}:Sample.none", "otp_runtime"])

        assert sample(2) == 4


class TestFillHoles:
    def test_what_is_made_then_lies_together(self):
        """In pools that were empty before; they are of 16 KiB."""
        scattered = [bytes(70) for _ in range(2000)][::7]
        pages.fill_holes()
        made = [b"\1" * 70 for _ in range(200)]
        pools = {id(one) // 16384 for one in made}

        assert len(pools) <= 3
        del scattered


def sample(number):
    add = lambda: number + 2  # noqa: E731  # code within code
    return add()


class Sample:
    @staticmethod
    def method():
        return 4

    @property
    def value(self):
        return 5
