"""Errors: fields, texts, and that each survives copy, pickle and the wire."""

import copy
import inspect
import pickle

import pytest

from otp_runtime import errors
from otp_runtime.errors import (
    AlreadyStarted,
    BadChildSpec,
    CallError,
    CallingSelf,
    CallTimeout,
    CodecError,
    ExitWith,
    MailboxFull,
    NoProcess,
    OtpError,
    ReceiveTimeout,
    RemoteError,
    RuntimeBug,
    ServerDown,
)
from otp_runtime.terms.codec import Codec
from otp_runtime.terms.pid import Pid
from otp_runtime.terms.reason import Crash, Signalled

CRASH = Crash("ValueError", "no", "Traceback (most recent call last):\n  File x\nValueError: no\n")
VALUES = {
    "app": "shop",
    "function": "shop.tills:count",
    "pid": Pid("n@h", 3, 1),
    "reason": CRASH,
    "server": "counter",
    "request": ("inc", 2),
    "elapsed": 1.5,
    "timeout": 5.0,
    "limit": 10,
    "detail": "supervisor top gave up",
    "child": "counter",
    "field": "restart",
    "value": "always",
    "allowed": ("permanent", "transient"),
    "id": ("worker", 1),
    "handler": ("Logger", 1),
    "node": "n@h",
    "topic": "room:7",
    "key": "ada",
    "path": 'request["a"]',
    "type": "function",
    "message": "oh",
    "traceback": "Traceback …",
}


def example(cls):
    """Return an instance of `cls` with every field given."""
    parameters = inspect.signature(cls).parameters.values()
    kinds = {p.name: p.kind for p in parameters if p.kind is not p.VAR_POSITIONAL}
    positional = [VALUES[n] for n, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return cls(*positional, **({"detail": VALUES["detail"]} if "detail" in kinds else {}))


def concrete():
    found = [getattr(errors, name) for name in errors.__all__]
    return [cls for cls in found if "__init__" in vars(cls) or "_what" in vars(cls) or "_of" in vars(cls)]


def facts(error):
    return type(error), error.args, vars(error), str(error)


@pytest.mark.parametrize("cls", concrete(), ids=lambda cls: cls.__name__)
class TestEveryError:
    def test_copy_is_equal(self, cls):
        """`copy.copy` keeps class, arguments, fields and text."""
        error = example(cls)

        assert facts(error) == facts(copy.copy(error))

    def test_pickle_gives_an_equal_one(self, cls):
        """Pickle keeps class, arguments, fields and text."""
        error = example(cls)

        assert facts(error) == facts(pickle.loads(pickle.dumps(error)))  # noqa: S301 - its own bytes

    def test_wire_gives_an_equal_one(self, cls):
        """The codec keeps class, arguments, fields, notes and text."""
        error = example(cls)
        codec = Codec()

        assert facts(error) == facts(codec.decode(codec.encode(error)))

    def test_text_is_one_line_built_from_the_fields(self, cls):
        """The text names no object address and does not repeat the constructor."""
        text = str(example(cls))

        assert "\n" not in text
        assert "object at" not in text


class TestTree:
    def test_all_but_ours_and_the_exit_are_otp_errors(self):
        """`except OtpError` catches whatever the library raises on purpose."""
        others = {name for name in errors.__all__ if not issubclass(getattr(errors, name), OtpError)}

        assert others == {"RuntimeBug", "ExitWith"}

    def test_timeouts_are_timeout_errors(self):
        """`except TimeoutError` works."""
        assert issubclass(CallTimeout, TimeoutError)
        assert issubclass(ReceiveTimeout, TimeoutError)

    def test_exit_with_passes_except_exception(self):
        """It is a BaseException only."""
        assert not issubclass(ExitWith, Exception)


class TestCallError:
    @pytest.mark.parametrize(
        ("cls", "reason"),
        [(NoProcess, "noproc"), (CallTimeout, "timeout"), (CallingSelf, "calling_self")],
    )
    def test_reason_is_otps(self, cls, reason):
        """Each call error has the exit reason that OTP would give."""
        assert reason == cls("counter").reason

    def test_server_down_has_the_servers_reason(self):
        """The reason comes first, the call after it."""
        error = ServerDown(Signalled("SIGKILL"), "counter", "val", 0.25, detail="gone")

        assert (Signalled("SIGKILL"), "counter", "val", 0.25) == (
            error.reason,
            error.server,
            error.request,
            error.elapsed,
        )
        assert "'counter' went down: killed by SIGKILL (request 'val', after 0.25 s); gone" == str(error)

    def test_server_down_carries_the_remote_traceback_as_a_note(self):
        """Python prints it below the error."""
        [note] = ServerDown(CRASH).__notes__

        assert CRASH.traceback.strip() in note

    def test_no_note_without_a_traceback(self):
        """An exit reason that is no crash adds nothing."""
        assert not hasattr(ServerDown("normal"), "__notes__")

    def test_unprintable_request_does_not_break_the_text(self):
        """A request whose repr raises is named by its type."""

        class Bad:
            def __repr__(self):
                raise ValueError

        assert "Bad whose repr raised ValueError" in str(CallTimeout("counter", Bad(), 5.0))

    def test_long_request_is_shortened(self):
        """The text stays readable."""
        assert len(str(CallTimeout("counter", "x" * 10_000))) < 500

    def test_is_a_base(self):
        """`except CallError` catches all four."""
        assert all(issubclass(c, CallError) for c in (NoProcess, CallTimeout, ServerDown, CallingSelf))


class TestTexts:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (AlreadyStarted(Pid("n@h", 3, 1)), "already started: <3@n@h> is running"),
            (
                BadChildSpec("restart", "x", ("a", "b")),
                "bad child spec: restart='x'; allowed: 'a', 'b'",
            ),
            (CodecError("a.b", "T", detail="no"), "a.b (T) cannot travel between processes: no"),
            (RemoteError("m.E", "text"), "m.E: text"),
            (RuntimeBug("x"), "bug in otp_runtime, please report it: x"),
            (
                MailboxFull("c", 5, 1.0),
                "the mailbox of 'c' is full (limit 5), waited 1 s; the message was not sent",
            ),
        ],
    )
    def test_says_who_and_what(self, error, text):
        """Texts name the thing, the value and what is allowed."""
        assert text == str(error)
