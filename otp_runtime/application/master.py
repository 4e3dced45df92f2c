"""The application master: the process in which an application's callbacks run, the parent of its top supervisor."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otp_runtime.application import controller
from otp_runtime.application.application import Application, resolve
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Stop
from otp_runtime.errors import CallError, ExitWith
from otp_runtime.process import ending
from otp_runtime.process import primitives as process
from otp_runtime.terms.events import Exit
from otp_runtime.terms.pid import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class _Running:
    """An application that runs: its top supervisor, None when that has ended, and what `start` gave beside it."""

    supervisor: Pid | None
    state: Any


class Master(GenServer[_Running]):
    """The master of one application; started by whoever starts the application, with the controller as its parent."""

    _label = "application master"
    trap_exit = True
    shutdown = None

    def init(self, app: type[Application], /) -> _Running:
        """Run `start` and the phases, and tell the controller that the application is up."""
        controller.ask(("here", app.name))
        self.app = app()
        supervisor, state = _taken(app, self.app.start("normal", app.args))
        process.link(supervisor)
        try:
            for one, phase, args in _phases(app):
                (self.app if one is app else one()).start_phase(phase, "normal", args)
        except BaseException:
            _shut_down(supervisor)
            raise
        controller.ask(("up", app.name, supervisor))
        return _Running(supervisor, state)

    def handle_cast(self, request: Any, running: _Running, /) -> Stop[_Running]:
        """The controller says stop."""
        return Stop("normal")

    def handle_info(self, message: Any, running: _Running, /) -> NoReply[_Running] | Stop[_Running]:
        """End as the top supervisor did."""
        match message:
            case Exit(pid=pid, reason=reason) if pid == running.supervisor:
                running.supervisor = None
                return Stop(reason)
            case _:
                return NoReply(running)

    def terminate(self, reason: Any, running: _Running, /) -> None:
        """Stop what still runs, and let the application clean up."""
        if running.supervisor is not None:
            try:
                running.state = self.app.prep_stop(running.state)
            except Exception:
                logging.getLogger(controller.LOGGER).exception("%s.prep_stop failed", type(self.app).__qualname__)
            _shut_down(running.supervisor)
        self.app.stop(running.state)


def _taken(app: type[Application], made: Any) -> tuple[Pid, Any]:
    match made:
        case Pid() as pid:
            return pid, None
        case (Pid() as pid, state):
            return pid, state
        case _:
            raise ExitWith(("bad_return", (app.__qualname__, "start", made)))


def _phases(app: type[Application]) -> Iterator[tuple[type[Application], str, Any]]:
    """Give the phases in their order: the application's own, and in each those included that have it as well."""
    family = [app, *_included(app)]
    for phase, _ in app.start_phases:
        for one in family:
            for name, args in one.start_phases:
                if name == phase:
                    yield one, phase, args


def _included(app: type[Application]) -> Iterator[type[Application]]:
    for one in map(resolve, app.included_applications):
        yield one
        yield from _included(one)


def _shut_down(supervisor: Pid) -> None:
    """Stop the tree and wait for its end, however long its children have; it may have ended otherwise by then."""
    with contextlib.suppress(CallError):
        ending.stop(supervisor, "shutdown")
