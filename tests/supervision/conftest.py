"""The tests of a class share a node; see `tests/process/shared_node.py`."""

import pytest

from tests.process.shared_node import _nothing_left, me, otp_node, unsendable
from tests.supervision.watching import Record

__all__ = ["_nothing_left", "me", "otp_node", "record", "unsendable"]


@pytest.fixture
def record(me, tmp_path):
    """A file into which children write what happens to them."""
    return Record(tmp_path / "record")
