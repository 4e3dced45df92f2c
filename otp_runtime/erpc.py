"""Functions of other nodes, OTP's `erpc`: see `otp_runtime.supervision.erpc`, whose functions these are."""

from otp_runtime.supervision.erpc import Done, Failed, call, cast, multicall

__all__ = ["Done", "Failed", "call", "cast", "multicall"]
