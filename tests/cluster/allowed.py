"""What a node allows others to run, and what it does not."""

import os
import signal
import time

from otp_runtime import process
from tests.cluster.servers import Hoard


def double(number):
    return 2 * number


def keywords(*args, **kwargs):
    return args, kwargs


def os_pid():
    return os.getpid()


def fail(text):
    raise ZeroDivisionError(text)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    raise SystemExit(3)


def code():
    return lambda: 1


def slow():
    time.sleep(60)


def today():
    # a class of a module that only this process has imported
    from tests.cluster.only_there import Report

    return Report("today")


def tell(pid, message):
    process.send(pid, message)


def secret():
    return "secret"


class Cart(Hoard):
    """A server that another node may start here."""

    def init(self, arg):
        return [arg]


class Locked(Hoard):
    """One that it may not."""


def apply(function, argument):
    return function(argument)
