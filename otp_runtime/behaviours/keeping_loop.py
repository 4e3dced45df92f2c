"""The loop of a server whose state is kept: the same rules, and what a callback gave is kept before its reply leaves.

A class of its own, so that a server which keeps nothing pays nothing for it. All of it hangs on four places: the start
(the state of `init` is replaced), the result of a callback, a system message that changes the state, and the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from otp_runtime.behaviours.keeping import Keeper, at_once, reason_of
from otp_runtime.behaviours.returns import MISSING, NoReply, RaiseInCaller, Reply, Stop
from otp_runtime.behaviours.server_loop import ServerLoop
from otp_runtime.core import messages as wire
from otp_runtime.core.keep import keep_of
from otp_runtime.errors import CodecError, DurableStateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.boot import Boot
    from otp_runtime.process.context import Context

_FAILURES = (CodecError, DurableStateError, OSError)
_CHANGES_STATE = ("replace_state", "change_code")


class Keeping(ServerLoop):
    """What both loops have in common."""

    is_plain = False
    keeper_class: ClassVar[type[Keeper]] = Keeper

    def __init__(self, context: Context, server: Any, options: dict[str, Any]) -> None:
        """See `ServerLoop`; the options say what is kept."""
        super().__init__(context, server, options)
        keep = keep_of(options)
        assert keep is not None
        self.keeper = self.keeper_class(self, keep)
        # what is called with the state that a callback gave; the keeper puts the shortest way here
        self.keep_state: Callable[[Any], None] = self.keeper.returned
        self._apply_plain = super()._apply

    def run(self, boot: Boot, name: Any, arg: Any) -> Any:
        """Live; give the exit reason."""
        reason = super().run(boot, name, arg)
        if self.message is None:
            self.keeper.finish(self.state)
        return reason

    def _apply(self, name: str, result: Any, envelope: wire.Envelope) -> None:
        kind = type(result)
        if kind is NoReply or ((kind is Reply or kind is RaiseInCaller) and name == "handle_call"):
            try:
                self.keep_state(result.state)
            except _FAILURES as error:
                self._end(reason_of(error))
        elif kind is Stop and not getattr(self.server, "is_at_fault", False):
            state = self.state if result.state is MISSING else result.state
            self._keep(self.keep_state, state)
            self._keep(self.keeper.keep_rest, state)
        self._apply_plain(name, result, envelope)

    def _answer_system(self, envelope: wire.Envelope, how: int, value: Any) -> None:
        request = envelope[3]
        word = request[0] if isinstance(request, tuple) and request else None
        if how == wire.VALUE and word in _CHANGES_STATE:
            self._keep(self.keeper.commit, self.state)
        elif word == "terminate":
            self.keeper.finish(self.state)
        self.keeper.release()
        super()._answer_system(envelope, how, value)

    def _keep(self, how: Callable[[Any], None], state: Any) -> None:
        try:
            how(state)
        except _FAILURES as error:
            self._end(reason_of(error))

    def _end(self, reason: Any) -> None:
        self.keeper.let_go()
        super()._end(reason)


class KeepingLoop(Keeping):
    """One server whose state is kept."""

    def _start(self, boot: Boot, result: Any) -> bool:
        return super()._start(boot, at_once(self.keeper.begin(result)))

    def _loop(self) -> None:
        self._keep(self.keeper.take_up, self.state)
        super()._loop()


def keeping(*, is_async: bool) -> type[Keeping]:
    """Choose the class of the loop of a server whose state is kept."""
    if is_async:
        # the event loop's modules weigh more than all else that a server has
        from otp_runtime.behaviours.async_keeping_loop import AsyncKeepingLoop

        return AsyncKeepingLoop
    return KeepingLoop
