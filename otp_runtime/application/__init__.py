"""Applications as OTP has them: a tree with a name, what it needs, its settings, and what its end means.

`Application` is what you subclass; the functions here are OTP's module `application`.
"""

from otp_runtime.application.application import Application
from otp_runtime.application.config import delete_env, fetch_env, get_all_env, get_env, put_env
from otp_runtime.application.operations import (
    ensure_all_started,
    get_supervisor,
    load,
    loaded_applications,
    start,
    started_applications,
    stop,
    which_applications,
)
from otp_runtime.core.applications import AppInfo

__all__ = [
    "AppInfo",
    "Application",
    "delete_env",
    "ensure_all_started",
    "fetch_env",
    "get_all_env",
    "get_env",
    "get_supervisor",
    "load",
    "loaded_applications",
    "put_env",
    "start",
    "started_applications",
    "stop",
    "which_applications",
]
