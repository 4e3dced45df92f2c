"""Budgets of a server: what it may use, and what is decided when it uses more.

    rss_soft      above it the server is recycled: it goes on in a fresh OS process, with its state and mailbox
    rss_hard      above it the server is killed and its supervisor starts it again; so for the other two
    cpu_seconds   CPU time since the start of the process
    open_files    descriptors

What its subprocesses use counts. Reaching a limit is allowed, passing it is not.

>>> Limits(rss_soft="300MB", rss_hard="0.5GiB").bounds()
Bounds(rss_soft=300000000, rss_hard=536870912, cpu_seconds=0.0, open_files=0)
>>> Limits(rss_hard="a lot")
Traceback (most recent call last):
    ...
otp_runtime.errors.BadChildSpec: bad child spec: rss_hard='a lot'; allowed: bytes above 0, as 400_000_000 or '400MB' (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), or None
"""  # noqa: E501 - the error is one line

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otp_runtime.errors import BadChildSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS: Final = {"B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", 1)
    for suffix, base in (("B", 1000), ("IB", 1024))
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B)\s*", re.ASCII | re.IGNORECASE)
_MOST: Final = 1 << 63
_BYTES_ALLOWED: Final = "bytes above 0, as 400_000_000 or '400MB' (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), or None"


class Bounds(NamedTuple):
    """Checked limits in plain numbers: bytes, seconds, descriptors. 0 means no limit."""

    rss_soft: int = 0
    rss_hard: int = 0
    cpu_seconds: float = 0.0
    open_files: int = 0


class Usage(NamedTuple):
    """What a server and its subprocesses use: bytes, CPU seconds since its start, descriptors."""

    rss: int
    cpu: float
    files: int = 0


class Over(NamedTuple):
    """A limit that was passed: which, how much is used, how much is allowed."""

    field: str
    used: float
    allowed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server and its subprocesses may use; None (the default of each): as much as there is.

    `rss_soft`, `rss_hard`: resident memory, in bytes or as `"400MB"` (a KB is 1000 bytes, a KiB 1024). `cpu_seconds`:
    CPU time, user and system, since the process started. `open_files`: descriptors, the library's own (about ten)
    included. Raises `BadChildSpec` for a value that is none, and when `rss_soft` is not below `rss_hard`.
    """

    rss_soft: int | str | None = None
    rss_hard: int | str | None = None
    cpu_seconds: float | None = None
    open_files: int | None = None

    def __post_init__(self) -> None:
        """Refuse wrong values where they are written down."""
        self.bounds()

    def bounds(self) -> Bounds:
        """Give the limits in plain numbers. Raises `BadChildSpec`."""
        soft, hard = _bytes_of("rss_soft", self.rss_soft), _bytes_of("rss_hard", self.rss_hard)
        if soft and hard and soft >= hard:
            raise BadChildSpec("rss_soft", self.rss_soft, f"less than rss_hard, which is {self.rss_hard!r}")
        if not (self.cpu_seconds is None or _is_time(self.cpu_seconds)):
            raise BadChildSpec("cpu_seconds", self.cpu_seconds, "seconds above 0, or None")
        if not (self.open_files is None or _is_count(self.open_files)):
            raise BadChildSpec("open_files", self.open_files, "an integer of 1 or more, or None")
        return Bounds(soft, hard, float(self.cpu_seconds or 0.0), self.open_files or 0)


def check_limits(options: Mapping[str, Any]) -> None:
    """Raise `BadChildSpec` when the option `limits` is wrong."""
    limits = options.get("limits")
    if limits is None:
        return
    if not isinstance(limits, Limits):
        raise BadChildSpec("limits", limits, "Limits(rss_soft=…, rss_hard=…, cpu_seconds=…, open_files=…), or None")
    limits.bounds()


def bounds_of(options: Mapping[str, Any]) -> Bounds | None:
    """Give what checked `options` limit; None when they limit nothing."""
    limits = options.get("limits")
    if limits is None:
        return None
    bounds: Bounds = limits.bounds()
    return bounds if any(bounds) else None


def passed(bounds: Bounds, usage: Usage) -> Over | None:
    """Say which hard limit was passed.

    >>> passed(Bounds(rss_hard=100, open_files=10), Usage(rss=99, cpu=3.0, files=11))
    Over(field='open_files', used=11, allowed=10)
    """
    for field, used, allowed in (
        ("rss_hard", usage.rss, bounds.rss_hard),
        ("cpu_seconds", usage.cpu, bounds.cpu_seconds),
        ("open_files", usage.files, bounds.open_files),
    ):
        if allowed and used > allowed:
            return Over(field, used, allowed)
    return None


def _bytes_of(field: str, given: object) -> int:
    """Give a number of bytes; 0 for none given."""
    if given is None:
        return 0
    size: object = given
    if isinstance(given, str) and (found := _SIZE.fullmatch(given)) is not None:
        size = int(min(float(found[1]) * _UNITS[found[2].upper()], _MOST))
    if not _is_count(size):
        raise BadChildSpec(field, given, _BYTES_ALLOWED)
    assert isinstance(size, int)
    return size


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _MOST


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST


__all__ = ["Bounds", "Limits", "Over", "Usage", "bounds_of", "check_limits", "passed"]
