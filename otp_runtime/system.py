"""OTP's `sys`: look into any server, hold it, debug it, change its state or its code."""

from otp_runtime.behaviours.system import (
    Event,
    Statistics,
    change_code,
    get_state,
    get_status,
    install,
    log,
    log_to_file,
    no_debug,
    remove,
    replace_state,
    resume,
    statistics,
    suspend,
    terminate,
    trace,
)

__all__ = [
    "Event",
    "Statistics",
    "change_code",
    "get_state",
    "get_status",
    "install",
    "log",
    "log_to_file",
    "no_debug",
    "remove",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "terminate",
    "trace",
]
