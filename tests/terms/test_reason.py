"""Exit reasons: which are abnormal, how a crash is described."""

import pytest

from otp_runtime.terms.reason import (
    Crash,
    Exited,
    Signalled,
    crash_of,
    describe,
    is_abnormal,
)


def caught(raise_it):
    try:
        raise_it()
    except BaseException as error:  # noqa: BLE001 - any of them
        return error
    raise AssertionError


class OwnError(Exception):
    """One of a module."""


class MuteError(Exception):
    """One that has no text."""

    def __str__(self):
        raise ZeroDivisionError


class TestIsAbnormal:
    @pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 1), ("shutdown", None)])
    def test_meant_ends_are_not(self, reason):
        """These three forms are the normal ends."""
        assert not is_abnormal(reason)

    @pytest.mark.parametrize(
        "reason",
        [
            "killed",
            "noproc",
            "",
            None,
            0,
            ("shutdown",),
            ("shutdown", 1, 2),
            ["shutdown", 1],
            ("normal", 1),
            Crash("ValueError", "x"),
            Signalled("SIGTERM"),
            Exited(0),
        ],
    )
    def test_everything_else_is(self, reason):
        """A process that left without a word ended abnormally, also with code 0."""
        assert is_abnormal(reason)


class TestCrashOf:
    def test_builtin_type_has_no_module(self):
        """`ValueError`, as Python prints it."""
        crash = crash_of(caught(lambda: int("x")))

        assert "ValueError" == crash.type
        assert crash.message.startswith("invalid literal")

    def test_own_type_has_its_module(self):
        """`module.Class`, so that two of the same name are told apart."""
        assert f"{__name__}.OwnError" == crash_of(OwnError("x")).type

    def test_traceback_is_formatted_with_notes_and_cause(self):
        """All that Python would have printed is there."""

        def fail():
            error = OwnError("second")
            error.add_note("a note")
            raise error from ValueError("first")

        text = crash_of(caught(fail)).traceback

        assert "in fail" in text
        assert "ValueError: first" in text
        assert "a note" in text

    def test_raising_str_does_not_break_it(self):
        """A crash of the crash report would hide the crash."""

        def fail():
            raise MuteError

        crash = crash_of(caught(fail))

        assert "raised ZeroDivisionError" in crash.message
        assert "in fail" in crash.traceback

    def test_long_text_is_cut_in_the_middle(self):
        """At most about 100,000 characters, both ends kept."""
        text = crash_of(ValueError("a" + "x" * 500_000 + "z")).traceback

        assert len(text) < 101_000
        assert text.startswith("ValueError: a")
        assert text.endswith("z\n")

    def test_deep_recursion_stays_short(self):
        """Python folds repeated frames."""

        def down():
            down()

        assert len(crash_of(caught(down)).traceback) < 5_000


class TestCrash:
    def test_all_fields_count_in_equality(self):
        """Two crashes with different tracebacks are different terms."""
        assert Crash("E", "m", "a") != Crash("E", "m", "b")

    def test_repr_leaves_the_traceback_out(self):
        """So that a reason fits into a line of a log."""
        assert "Crash('E', 'm')" == repr(Crash("E", "m", "Traceback …"))


class TestDescribe:
    @pytest.mark.parametrize(
        ("reason", "text"),
        [
            ("normal", "normal"),
            (("shutdown", "moving"), "shutdown: moving"),
            (Crash("ValueError", "x", "tb"), "exception ValueError: x"),
            (Crash("KeyboardInterrupt", ""), "exception KeyboardInterrupt"),
            (Signalled("SIGSEGV", core=True), "killed by SIGSEGV (core dumped)"),
            (Signalled("SIGKILL", oom=True), "killed by the kernel's OOM killer (SIGKILL)"),
            (Exited(3), "exit code 3"),
            (("bad_return_value", 7), "('bad_return_value', 7)"),
            (Crash("E", "two\nlines"), "exception E: two lines"),
        ],
    )
    def test_is_one_line_for_people(self, reason, text):
        """Each kind of end has its words."""
        assert text == describe(reason)

    def test_never_raises(self):
        """A reason is any term, also one that cannot be printed."""

        class Bad:
            def __repr__(self):
                raise ValueError

        assert "Bad" in describe(Bad())
