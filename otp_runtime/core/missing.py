"""The absence of a value, where None is a value."""

from __future__ import annotations

import enum
from typing import Final


class Missing(enum.Enum):
    """The absence of a value."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = Missing.MISSING
