"""A node for the tests of a class; each test ends the applications it started, and their controller."""

import pytest

from otp_runtime import GenServer, application, process
from otp_runtime.application.controller import NAME
from otp_runtime.process.current import peek
from tests.process.shared_node import _nothing_left, me, otp_node, unsendable

__all__ = ["_nothing_left", "me", "otp_node", "unsendable"]


@pytest.fixture(autouse=True)
def _stop_all(_nothing_left):
    yield
    if peek() is None or process.whereis(NAME) is None:
        return
    for app in reversed(application.which_applications()):
        application.stop(app.name)
    GenServer.stop(NAME, "shutdown", 5.0, missing_ok=True)


@pytest.fixture
def watcher(me):
    """This process, by the name that the applications tell."""
    process.register(me, "watcher")
    yield me
    process.unregister("watcher")
