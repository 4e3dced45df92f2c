"""Who is in a topic, Phoenix's Presence: see `otp_runtime.registry.presence`, whose functions these are."""

from otp_runtime.registry.presence import get_by_key, list, track, untrack, update

__all__ = ["get_by_key", "list", "track", "untrack", "update"]
