"""What a command can end with: its exit codes, and the errors that carry them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1  # the thing asked about failed
USAGE: Final = 2  # argparse's own, too
NOT_FOUND: Final = 3  # no such node or process
GAVE_UP: Final = 4  # the tree gave up
INTERRUPTED: Final = "interrupted"


class CommandError(Exception):
    """Ends a command with `code`, after `text` was printed to standard error."""

    code = FAILED

    def __init__(self, text: str) -> None:
        """Say it for people."""
        super().__init__(text)
        self.text = text


class WrongUsage(CommandError):
    """What was typed cannot be meant."""

    code = USAGE


class NoSuchThing(CommandError):
    """There is no such node or process."""

    code = NOT_FOUND
