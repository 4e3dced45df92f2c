"""Values made from others."""

from dataclasses import dataclass, replace

import pytest

from otp_runtime.core.values import evolve


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


class TestEvolve:
    def test_the_fields_that_are_given(self):
        """Change, and no other; the value itself does not."""
        point = Point(1, 2)

        assert (evolve(point, y=3), point) == (Point(1, 3), Point(1, 2))

    def test_as_of_any_dataclass(self):
        """It gives what the standard library gives."""
        assert evolve(Point(1), x=5) == replace(Point(1), x=5)

    def test_a_field_that_is_not_there(self):
        """Is an error, as it is in the standard library."""
        with pytest.raises(TypeError, match="z"):
            evolve(Point(1), z=5)
