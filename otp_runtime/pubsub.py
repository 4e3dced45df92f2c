"""Topics and broadcasts, Phoenix's PubSub: see `otp_runtime.registry.pubsub`, whose functions these are."""

from otp_runtime.registry.pubsub import (
    broadcast,
    broadcast_from,
    child_spec,
    direct_broadcast,
    local_broadcast,
    local_broadcast_from,
    start,
    start_link,
    subscribe,
    unsubscribe,
)

__all__ = [
    "broadcast",
    "broadcast_from",
    "child_spec",
    "direct_broadcast",
    "local_broadcast",
    "local_broadcast_from",
    "start",
    "start_link",
    "subscribe",
    "unsubscribe",
]
