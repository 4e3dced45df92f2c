"""OTP's `sys`: look into any server, hold it, change its state or its code."""

from otp_runtime.behaviours.system import (
    change_code,
    get_state,
    get_status,
    replace_state,
    resume,
    suspend,
    terminate,
)

__all__ = ["change_code", "get_state", "get_status", "replace_state", "resume", "suspend", "terminate"]
