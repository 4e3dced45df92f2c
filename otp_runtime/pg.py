"""Process groups, OTP's `pg`: see `otp_runtime.registry.pg`, whose functions these are."""

from otp_runtime.registry.pg import (
    child_spec,
    demonitor,
    get_local_members,
    get_members,
    join,
    leave,
    monitor,
    monitor_scope,
    start,
    start_link,
    which_groups,
    which_local_groups,
)

__all__ = [
    "child_spec",
    "demonitor",
    "get_local_members",
    "get_members",
    "join",
    "leave",
    "monitor",
    "monitor_scope",
    "start",
    "start_link",
    "which_groups",
    "which_local_groups",
]
