"""Order in the memory of a process that will be forked."""

from otp_runtime.host import pages


class TestFillHoles:
    def test_what_is_made_then_lies_together(self):
        """In pools that were empty before; they are of 16 KiB."""
        scattered = [bytes(70) for _ in range(2000)][::7]
        pages.fill_holes()
        made = [b"\1" * 70 for _ in range(200)]
        pools = {id(one) // 16384 for one in made}

        assert len(pools) <= 3
        del scattered


class TestFillLargeHoles:
    def test_what_is_made_then_lies_together(self):
        """Behind all that was there."""
        scattered = [b"\1" * 2000 for _ in range(400)]
        del scattered[::2]
        pages.fill_large_holes()
        made = [b"\1" * 2000 for _ in range(100)]
        between = [one for one in scattered if min(map(id, made)) < id(one) < max(map(id, made))]

        assert between == []


class TestForgetLookups:
    def test_what_is_looked_up_is_found(self):
        """Anew, if need be."""
        before = Sample().value
        pages.forget_lookups()

        assert before == Sample().value


class Sample:
    @property
    def value(self):
        return 5
