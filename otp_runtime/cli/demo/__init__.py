"""`demo`: a short story for newcomers in which every claim is checked while it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def perform(options: argparse.Namespace) -> int:
    """Tell the story, or one chapter; exit code 1 when a claim does not hold."""
    from otp_runtime.cli.demo.chapters import tell

    return tell(options.chapter)
