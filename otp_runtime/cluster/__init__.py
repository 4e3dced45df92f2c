"""Nodes that know each other, on NATS: the extra `otp-runtime[cluster]`. Imported only where a cluster was asked for.

    program ── Node.start(name, cluster=…) ──► joining ──► engine (embedded: a keeper and its server)
                                                  └──► supervisor ──► gateway: session (NATS), delivery, services
    every process of the node: routing, remote ──► the gateway's mailbox

`core.membership` and `core.watches` decide; `protocol` is what nodes say to each other.
"""
