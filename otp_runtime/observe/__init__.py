"""Looking at a running node without disturbing it: what its black boxes say, as plain data."""

from otp_runtime.observe.activity import Activity, Picture, Watcher
from otp_runtime.observe.tree import NodeView, ProcessView, Step, describe_status, observe, walk

__all__ = [
    "Activity",
    "NodeView",
    "Picture",
    "ProcessView",
    "Step",
    "Watcher",
    "describe_status",
    "observe",
    "walk",
]
