"""Functions that are made anew, side by side."""

import operator

from otp_runtime.host.pages import fill_holes, gather

PAGE = 4096


class TestGather:
    def test_a_function_does_what_it_did(self):
        """With its defaults, what it closes over, and code within its code."""
        before = id(plain)
        gather(named("plain"))

        assert (True, 7, 8) == (id(plain) != before, plain(1), plain(1, more=3))

    def test_everything_about_it_is_kept(self):
        """What `inspect`, a debugger and `typing` look at."""
        before = about(described)
        gather(named("described"))

        assert before == about(described)

    def test_it_is_one_function_under_all_its_names(self):
        """Also in a class, by another name."""
        gather(named("shared"))

        assert shared is also_shared is Sample.__dict__["borrowed"]

    def test_what_a_class_holds(self):
        """Methods with `super()`, those of every kind, properties that can be set."""
        before = [id(vars(Sample)[name]) for name in KINDS]
        gather(named(*(f"Sample.{name}" for name in KINDS)))
        after = [id(vars(Sample)[name]) for name in KINDS]
        sample = Sample()
        sample.value = 5

        # each beside its own: an address that one has given up may be another's by now
        assert all(map(operator.ne, before, after))
        assert ("base sample", Sample, 4, 6) == (sample.greet(), sample.made(), sample.fixed(), sample.value)

    def test_what_anything_else_holds_stays(self):
        """It has new code, and is the same."""
        held, code = TABLE["held"], TABLE["held"].__code__
        gather(named("held_in_a_table"))

        assert (True, True, 3) == (held_in_a_table is held, held.__code__ is not code, held())

    def test_they_lie_side_by_side(self):
        """A hundred functions on few pages, however far from each other they were."""
        before = pages_of_many()
        fill_holes()
        gather(named(*(f"Many.method{number}" for number in range(100))))

        assert (True, True) == (before > 80, pages_of_many() < 30)

    def test_what_is_not_there_is_passed_over(self):
        """A list may be older than the code."""
        gather(["no_module:function", *named("no_function", "Sample.none", "PAGE", "PAGE.real"), "otp_runtime"])

        assert plain(1) == 7


def pages_of_many():
    return len({id(vars(Many)[f"method{number}"]) // PAGE for number in range(100)})


def named(*paths):
    return [f"{__name__}:{path}" for path in paths]


def about(function):
    code = function.__code__
    return (
        (function.__name__, function.__qualname__, function.__module__, function.__doc__, function.__annotations__),
        (function.__defaults__, function.__kwdefaults__, function.__dict__),
        (code.co_filename, code.co_firstlineno, list(code.co_lines()), code.co_varnames),
    )


def plain(number, *, more=2):
    add = lambda: number + more + 4  # noqa: E731  # code within code
    return add()


def described(one: int, two: str = "two", *, three: float = 3.0) -> None:
    """Says nothing."""


described.mark = "kept"


def shared():
    return 1


also_shared = shared


def held_in_a_table():
    return 3


TABLE = {"held": held_in_a_table}
KINDS = ("greet", "made", "fixed", "value")


class Base:
    def greet(self):
        return "base"


class Sample(Base):
    borrowed = shared

    def greet(self):
        return super().greet() + " sample"

    @classmethod
    def made(cls):
        return cls

    @staticmethod
    def fixed():
        return 4

    @property
    def value(self):
        return self._value + 1

    @value.setter
    def value(self, value):
        self._value = value


class Many:
    _between = []  # noqa: RUF012
    for _number in range(100):
        exec(f"def method{_number}(self):\n    return {_number}")  # noqa: S102
        _between.append([lambda: None for _ in range(60)])
