"""`bench`: what this machine makes of the runtime. Kept small: servers that are measured live below this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def perform(options: argparse.Namespace) -> int:
    """Measure and print; exit code 1 when the machine cannot run a node."""
    from otp_runtime.cli.bench.command import measure

    return measure(options)
