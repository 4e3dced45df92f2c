"""Applications and the end of their node: each test has a node of its own."""

import time

import pytest

from otp_runtime import Down, Supervisor, application, process
from otp_runtime.application.controller import NAME
from otp_runtime.process import current
from otp_runtime.testing.nodes import private_node
from tests.application.apps import Library, Stock, WebShop

pytestmark = pytest.mark.slow  # each test starts and ends a node


def wait_gone():
    """Wait until this program has noticed that its node is gone."""
    deadline = time.monotonic() + 10.0
    while not current.has_ended():
        assert time.monotonic() < deadline, "the node is still there"


class TestTheNodesEnd:
    """Each of these tests has a node of its own, and ends it."""

    @pytest.mark.parametrize(
        ("type", "reason"), [("permanent", "normal"), ("permanent", "shutdown"), ("transient", "shutdown")]
    )
    def test_an_application_takes_the_node_with_it(self, type, reason):
        """Everything stops in order; the program goes on without a node."""
        with private_node():
            application.start(Library)
            supervisor = application.start(Stock, type)
            watched = process.monitor(NAME)
            Supervisor.stop(supervisor, reason)

            assert "shutdown" == process.receive(lambda one: isinstance(one, Down) and one.ref == watched, 5.0).reason
            wait_gone()

    def test_applications_stop_in_order_with_the_node(self, tmp_path):
        """Last started first, each with prep_stop, before what it needs."""
        path = tmp_path / "told"
        with private_node():
            application.put_env(Stock, "told", str(path))
            application.ensure_all_started(WebShop)
        lines = path.read_text(encoding="utf-8").splitlines()

        assert [
            "prep_stop web_shop state",
            "worker stopped web_shop",
            "stop web_shop state, prepared",
            "prep_stop stock state",
            "worker stopped stock",
            "stop stock state, prepared",
        ] == lines[2:]
