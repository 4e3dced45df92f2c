"""What of a server's state is kept: the options, their defaults and checks.

    restore             "fresh" (nothing is kept), "last_good" (the state after the last callback that returned) or
                        "previous" (the one before)
    durable             None, True (the node's own database) or the path of one
    commit              "every" callback, `Every(n)` callbacks, `Every(seconds=t)`, or "manual"
    max_state_crashes   deaths in a row, without one callback having returned, after which one goes a state back
    record              whether what is received since the state that was last kept is recorded, for `otp replay`

>>> check_keep({"restore": "latest"})
Traceback (most recent call last):
    ...
otp_runtime.errors.BadChildSpec: bad child spec: restore='latest'; allowed: 'fresh' or 'last_good' or 'previous'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from otp_runtime.errors import BadChildSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

Restore: TypeAlias = Literal["fresh", "last_good", "previous"]

RESTORES: Final = ("fresh", "last_good", "previous")
DEFAULT_STATE_CRASHES: Final = 3
OPTIONS: Final = ("restore", "durable", "commit", "max_state_crashes", "record")
"""The options of a start or a child spec that say what is kept."""


@dataclass(frozen=True, slots=True)
class Every:
    """How often a state is committed: after every `count` callbacks, or `seconds` after it changed; one of both.

    Gives up the promise that a reply you saw implies a state that survives. Making one checks nothing; a start and a
    child spec do.
    """

    count: int | None = None
    seconds: float | None = None


Commit: TypeAlias = Literal["every", "manual"] | Every


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept, with nothing left open: `durable` is "" for the node's own database."""

    restore: Restore
    commit: Commit
    max_state_crashes: int
    durable: str | None

    @property
    def holds_replies(self) -> bool:
        """Whether a reply waits until the state that it tells of is kept."""
        return not isinstance(self.commit, Every)


def keep_of(options: Mapping[str, Any]) -> Keep | None:
    """Give what checked `options` ask for; None when they ask for nothing."""
    durable = options.get("durable")
    restore: Restore = options.get("restore") or ("fresh" if durable is None else "last_good")
    if restore == "fresh" and durable is None:
        return None
    return Keep(
        restore=restore,
        commit=options.get("commit", "every"),
        max_state_crashes=options.get("max_state_crashes", DEFAULT_STATE_CRASHES),
        durable=durable if durable is None else "" if durable is True else str(durable),
    )


def check_keep(options: Mapping[str, Any]) -> None:
    """Raise `BadChildSpec` with the first of these options that is wrong."""
    if "restore" in options and not _is_one_of(options["restore"], RESTORES):
        raise BadChildSpec("restore", options["restore"], " or ".join(map(repr, RESTORES)))
    _check_durable(options.get("durable"))
    _check_commit(options.get("commit", "every"))
    crashes = options.get("max_state_crashes", DEFAULT_STATE_CRASHES)
    if not _is_count(crashes):
        raise BadChildSpec("max_state_crashes", crashes, "an integer of 1 or more")
    if not isinstance(options.get("record", False), bool):
        raise BadChildSpec("record", options["record"], "True or False")


def _check_durable(durable: object) -> None:
    if durable is None or durable is True:
        return
    allowed = "None, True or the path of a database"
    path = durable.__fspath__() if hasattr(durable, "__fspath__") else durable
    if not isinstance(path, str) or not path or "\0" in path:
        raise BadChildSpec("durable", durable, allowed)


def _check_commit(commit: object) -> None:
    allowed = "'every', 'manual', Every(n) with n of 1 or more, or Every(seconds=t) with t above 0"
    match commit:
        case Every(count=count, seconds=None) if _is_count(count):
            return
        case Every(count=None, seconds=seconds) if _is_time(seconds):
            return
        case _ if _is_one_of(commit, ("every", "manual")):
            return
        case _:
            raise BadChildSpec("commit", commit, allowed)


def _is_one_of(value: object, allowed: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in allowed


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
