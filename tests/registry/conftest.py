"""The tests of a class share a node; see `tests/process/shared_node.py`."""

from tests.process.shared_node import _nothing_left, me, otp_node

__all__ = ["_nothing_left", "me", "otp_node"]
