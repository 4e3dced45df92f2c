"""The loop of a server whose mailbox outlives it: the same rules, and each message is marked as it is handled.

    BEGUN n ──► callback ──► state kept (where it is) ──► reply ──► DONE n

A class of its own, so that a server with a transient mailbox pays nothing for it. What is marked, and what becomes of
what was not, `process.mail` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours.keeping_loop import Keeping
from otp_runtime.behaviours.returns import NoReply, RaiseInCaller, Reply, Stop
from otp_runtime.behaviours.server_loop import End, EndAsync, ServerLoop
from otp_runtime.host import poller
from otp_runtime.process import boot as booting
from otp_runtime.process import places
from otp_runtime.process.context import ExitSignal
from otp_runtime.process.mail import Letter, Mail

if TYPE_CHECKING:
    from otp_runtime.core import messages as wire
    from otp_runtime.process.boot import Boot

_RETURNED = (NoReply, Reply, RaiseInCaller, Stop)


class Lasting(ServerLoop):
    """What all of these loops have in common."""

    mailbox = "durable"
    is_plain = False

    def run(self, boot: Boot, name: Any, arg: Any) -> Any:
        """Live; give the exit reason."""
        if boot.succession is None:
            try:
                mail = Mail.attach(self.context)
                mail.name = name if isinstance(name, str) else ""
                # what waited is decoded: objects of the user's may do anything then, never return too
                self.box.enter_callback(poller.now(), 0, b"")
                mail.recover()
                self.box.leave_callback()
                mail.be_held(boot)
            except ExitSignal as signal:
                boot.say("error", signal.reason)
                return signal.reason
            except OSError as error:
                reason = ("durable_mailbox", places.mail_of(self.context.place), str(error))
                booting.note_words(error)
                boot.say("error", reason)
                return reason
        reason = super().run(boot, name, arg)
        if self.context.mail is not None:
            self.context.mail.take_rest()
        return reason

    def settle(self) -> None:
        """Before the first message: decide about the one that a predecessor had in hand."""
        mail: Mail = self.context.mail
        mail.set_aside = self.set_aside
        mail.settle(self.keeper.newest if isinstance(self, Keeping) else 0, self.options.get("redeliver", 0))

    def _enter(self, payload: bytes, envelope: wire.Envelope) -> None:
        if type(payload) is Letter:
            self.context.mail.begin(payload)
        else:
            self.context.mail.drop_hand()
        super()._enter(payload, envelope)

    def _apply(self, name: str, result: Any, envelope: wire.Envelope) -> None:
        """A callback returned: with its state kept and its reply sent, its message is handled."""
        mail: Mail = self.context.mail
        if type(result) not in _RETURNED:
            super()._apply(name, result, envelope)
            return
        if isinstance(self, Keeping):
            mail.intend(self.keeper.newest + 1)
        try:
            super()._apply(name, result, envelope)
        except (End, EndAsync):
            # a state that cannot be kept ends it too, and does not count as handled
            if type(result) is Stop and self.is_stopping:
                mail.finish()
            raise
        mail.finish()

    is_stopping = False

    def _stop(self, result: Stop[Any], envelope: wire.Envelope) -> None:
        self.is_stopping = True
        super()._stop(result, envelope)


class LastingLoop(Lasting):
    """A sync server's."""

    def _loop(self) -> None:
        self.settle()
        super()._loop()


def lasting(loop: type[ServerLoop], *, is_async: bool) -> type[ServerLoop]:
    """Give the class of a loop that does what `loop` does, with a mailbox that outlives it."""
    mixin: type[Lasting] = LastingLoop
    if is_async:
        # the event loop's modules weigh more than all else that a server has
        from otp_runtime.behaviours.async_lasting_loop import AsyncLastingLoop as mixin  # noqa: N813 - one of two
    return type(f"Lasting{loop.__name__}", (mixin, loop), {})
