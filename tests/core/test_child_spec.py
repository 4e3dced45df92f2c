"""Child specs and supervisor flags: defaults, checks, and what a children list may hold."""

import math

import pytest

from otp_runtime.core.child_spec import (
    ChildSpec,
    SupervisorFlags,
    check_child_spec,
    check_child_specs,
    check_flags,
    coerce_child_spec,
    is_seconds,
)
from otp_runtime.errors import BadChildSpec, BadSupervisorFlags, DuplicateChild
from tests.core.supervisor_driver import child


class Worker:
    @classmethod
    def child_spec(cls, arg=None):
        return ChildSpec(cls.__qualname__, start=(cls, (arg,), {}))


class TestChildSpec:
    def test_worker_has_five_seconds_to_stop(self):
        """The default shutdown of a worker."""
        assert 5.0 == child("a").shutdown

    def test_supervisor_has_for_ever(self):
        """The default shutdown of a supervisor."""
        assert None is child("a", type="supervisor").shutdown

    def test_given_shutdown_is_kept(self):
        """None given is not None missing."""
        assert None is child("a", shutdown=None).shutdown

    def test_it_cannot_be_changed(self):
        """A spec is a value."""
        with pytest.raises(AttributeError):
            child("a").id = "b"


class TestCheckChildSpec:
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"shutdown": 0},
            {"shutdown": "brutal_kill"},
            {"start": b"sealed"},
            {"preload": ()},
            {"preload": ("json",)},
            {"restart": "transient", "significant": True},
            {"id": ("pool", 1)},
        ],
    )
    def test_allowed_spec_comes_back(self, fields):
        """It is the very object that was given."""
        spec = ChildSpec(**{"id": "a", "start": (dict, (), {}), **fields})

        assert spec is check_child_spec(spec)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", ["list"]),
            ("start", dict),
            ("start", (dict, [], {})),
            ("start", ("dict", (), {})),
            ("start", [dict, (), {}]),
            ("restart", "always"),
            ("restart", ["permanent"]),
            ("type", "job"),
            ("shutdown", -1),
            ("shutdown", math.nan),
            ("shutdown", math.inf),
            ("shutdown", True),
            ("shutdown", "5"),
            ("significant", 1),
            ("preload", ["json"]),
            ("preload", ("",)),
            ("preload", "json"),
            ("spare", -1),
            ("spare", True),
            ("spare", 1.0),
        ],
    )
    def test_wrong_field_is_named(self, field, value):
        """The error carries the field, the value and what is allowed."""
        spec = ChildSpec(**{"id": "a", "start": (dict, (), {}), field: value})

        with pytest.raises(BadChildSpec) as caught:
            check_child_spec(spec)

        assert (field, value) == (caught.value.field, caught.value.value)
        assert caught.value.allowed in str(caught.value)

    def test_a_supervisor_is_no_spare(self):
        """It is made from data, by its OS parent itself."""
        with pytest.raises(BadChildSpec, match="spare=1; allowed: 0 for a supervisor"):
            check_child_spec(ChildSpec("a", start=(dict, (), {}), type="supervisor", spare=1))

    def test_the_child_is_named(self):
        """Whose spec is wrong, among many."""
        with pytest.raises(BadChildSpec, match="spec of child 'a'") as caught:
            check_child_spec(ChildSpec("a", start=(dict, (), {}), restart="always"))

        assert caught.value.child == "a"

    def test_permanent_child_cannot_be_significant(self):
        """It never ends for good."""
        with pytest.raises(BadChildSpec, match="permanent"):
            check_child_spec(child("a", significant=True))

    def test_significant_child_needs_auto_shutdown(self):
        """Under `"never"` its end could mean nothing."""
        spec = child("a", "temporary", significant=True)

        assert spec is check_child_spec(spec, "any_significant")
        with pytest.raises(BadChildSpec, match="never"):
            check_child_spec(spec, "never")


class TestCoerceChildSpec:
    def test_class_gives_its_own_spec(self):
        """`Class` means `Class.child_spec()`."""
        assert (Worker, (None,), {}) == coerce_child_spec(Worker).start

    def test_pair_passes_the_argument(self):
        """`(Class, arg)` means `Class.child_spec(arg)`."""
        assert (Worker, (7,), {}) == coerce_child_spec((Worker, 7)).start

    @pytest.mark.parametrize("wrong", [None, "Worker", dict, (Worker, 1, 2), (1, Worker), Worker()])
    def test_anything_else_is_refused(self, wrong):
        """The error says what a child may be."""
        with pytest.raises(BadChildSpec, match="child_spec"):
            coerce_child_spec(wrong)

    def test_child_spec_has_to_give_a_spec(self):
        """A method of that name which does something else is refused."""

        class Odd:
            @classmethod
            def child_spec(cls):
                return {"id": "odd"}

        with pytest.raises(BadChildSpec):
            coerce_child_spec(Odd)


class TestCheckChildSpecs:
    def test_order_is_kept(self):
        """It is the start order."""
        assert ["b", "Worker", "a"] == [spec.id for spec in check_child_specs([child("b"), Worker, child("a")])]

    def test_equal_ids_are_refused(self):
        """Also where two children use the same default."""
        with pytest.raises(DuplicateChild):
            check_child_specs([Worker, (Worker, 1)])

    @pytest.mark.parametrize("wrong", [Worker, child("a"), "ab", 5, None])
    def test_no_list_is_refused(self, wrong):
        """A single child in place of the list is a common slip."""
        with pytest.raises(BadChildSpec) as caught:
            check_child_specs(wrong)

        assert "children" == caught.value.field


class TestCheckFlags:
    def test_defaults_are_allowed(self):
        """Three restarts in five seconds, no auto shutdown."""
        flags = SupervisorFlags("one_for_all")

        assert flags is check_flags(flags)
        assert (3, 5, "never") == (flags.max_restarts, flags.max_seconds, flags.auto_shutdown)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("strategy", "one_for_none"),
            ("strategy", None),
            ("max_restarts", -1),
            ("max_restarts", True),
            ("max_restarts", 1.5),
            ("max_seconds", 0),
            ("max_seconds", math.nan),
            ("max_seconds", "5"),
            ("auto_shutdown", True),
        ],
    )
    def test_wrong_field_is_named(self, field, value):
        """The error carries the field and the value."""
        flags = SupervisorFlags(**{"strategy": "one_for_one", field: value})

        with pytest.raises(BadSupervisorFlags) as caught:
            check_flags(flags)

        assert field == caught.value.field


class TestIsSeconds:
    @pytest.mark.parametrize("value", [0, 1, 0.5, 10**9])
    def test_numbers_are(self, value):
        """Zero included."""
        assert is_seconds(value)

    @pytest.mark.parametrize("value", [-1, True, None, "1", math.nan, math.inf])
    def test_others_are_not(self, value):
        """For ever is None elsewhere, never infinity."""
        assert not is_seconds(value)
