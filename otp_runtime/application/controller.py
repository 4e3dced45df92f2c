"""The application controller: one process of the node that knows which applications are loaded, which run, as what.

    caller ── begin ──► controller          may it start? what it needs must run
       └── starts ──► master ── here ──► controller
                        │ start() … up ──► controller        running; who waited is told
                        └ ends ── Exit ──► controller        stopped as asked; or by itself: what does that mean?

It runs library code only, waits for nobody, and is started when the first application is. It is the parent of all
masters: when it is told to end (with the node), it stops all applications, last started first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otp_runtime.application import config
from otp_runtime.behaviours import gen
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.behaviours.returns import NoReply, Reply
from otp_runtime.behaviours.server_loop import serve
from otp_runtime.core import messages as wire
from otp_runtime.core.applications import ends_the_node
from otp_runtime.errors import AlreadyStarted, NoProcess
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.process.handle import LAUNCHER_ID
from otp_runtime.process.starting import start_job
from otp_runtime.terms.events import Down, Exit
from otp_runtime.terms.reason import describe, is_abnormal

if TYPE_CHECKING:
    from otp_runtime.core.applications import AppInfo, StartType
    from otp_runtime.process.client import Client
    from otp_runtime.terms.pid import Pid, Ref

NAME = "application_controller"
LOGGER = "otp_runtime.application"


@dataclass(slots=True)
class _App:
    """What the controller knows of one application."""

    info: AppInfo
    settings: dict[str, bytes]
    status: str = "loaded"
    type: StartType = "temporary"
    starter: Ref | None = None
    starter_pid: Pid | None = None
    master: Pid | None = None
    supervisor: Pid | None = None
    waiting: list[Client[Any]] = field(default_factory=list)


def ask(request: Any) -> Any:
    """Ask the controller of this node; started by the first who asks."""
    while True:
        try:
            return gen.call(NAME, request, None)
        except NoProcess:
            _start()


def _start() -> None:
    try:
        start_job(
            "start",
            serve,
            (_Controller, None, NAME, {}),
            {},
            label="application controller",
            link=False,
            name=NAME,
            shutdown=None,
            program=0,
        )
    except AlreadyStarted:
        return


class _Controller(GenServer[dict[str, _App]]):
    """The controller; its state is the applications by name, those that run in the order in which they started."""

    _label = "application controller"
    trap_exit = True
    shutdown = None

    def init(self, _arg: Any, /) -> dict[str, _App]:
        """Nothing is loaded."""
        return {}

    def handle_call(self, request: Any, client: Client[Any], apps: dict[str, _App], /) -> Any:
        """Answer callers and masters."""
        match request:
            case ("load", info, settings):
                return Reply(self._load(apps, info, settings), apps)
            case ("begin", name, type, needs):
                return self._begin(apps, client, name, type, needs)
            case ("here", name):
                apps[name].master = client.pid
                process.link(client.pid)
                return Reply(None, apps)
            case ("up", name, supervisor):
                self._up(apps, name, supervisor)
                return Reply(None, apps)
            case ("failed", name):
                if apps[name].starter_pid == client.pid and apps[name].master is None:
                    self._loaded_again(apps, name, "retry")
                return Reply(None, apps)
            case ("stop", name):
                return self._stop(apps, client, name)
            case ("put_env" | "delete_env", name, key, *value):
                return Reply(self._change(apps, name, key, value), apps)
            case ("list", *statuses):
                return Reply([one.info for one in apps.values() if one.status in statuses or not statuses], apps)
            case ("supervisor", name):
                return Reply(apps[name].supervisor if name in apps else None, apps)
            case _:
                return super().handle_call(request, client, apps)

    # -- loading --------------------------------------------------------------------------------------------

    def _load(self, apps: dict[str, _App], info: AppInfo, settings: dict[str, bytes]) -> bool:
        if info.name in apps:
            return False
        apps[info.name] = _App(info, settings)
        config.keep(current().directory, info.name, settings)
        return True

    def _change(self, apps: dict[str, _App], name: str, key: str, value: list[bytes]) -> bool:
        if name not in apps:
            return False
        if value:
            apps[name].settings[key] = value[0]
        else:
            apps[name].settings.pop(key, None)
        config.keep(current().directory, name, apps[name].settings)
        return True

    # -- starting -------------------------------------------------------------------------------------------

    def _begin(
        self, apps: dict[str, _App], client: Client[Any], name: str, type: StartType, needs: tuple[str, ...]
    ) -> Any:
        """Say "go", ("running", supervisor), ("not_started", name) or, when the start of another failed, "retry"."""
        app = apps[name]
        if app.status == "running":
            return Reply(("running", app.supervisor), apps)
        if app.status != "loaded":
            app.waiting.append(client)
            return NoReply(apps)
        for need in needs:
            if need not in apps or apps[need].status != "running":
                return Reply(("not_started", need), apps)
        app.status, app.type = "starting", type
        app.starter, app.starter_pid = process.monitor(client.pid), client.pid
        return Reply("go", apps)

    def _up(self, apps: dict[str, _App], name: str, supervisor: Pid | None) -> None:
        app = apps.pop(name)
        apps[name] = app
        app.status, app.supervisor = "running", supervisor
        self._forget_starter(app)
        logging.getLogger(LOGGER).info("application %s started (%s)", name, app.type)
        self._tell_waiting(app, ("running", supervisor))

    def _forget_starter(self, app: _App) -> None:
        if app.starter is not None:
            process.demonitor(app.starter, flush=True)
        app.starter = app.starter_pid = None

    def _tell_waiting(self, app: _App, word: Any) -> None:
        waiting, app.waiting = app.waiting, []
        for client in waiting:
            gen.reply(client, word)

    def _loaded_again(self, apps: dict[str, _App], name: str, word: Any) -> None:
        app = apps[name]
        app.status, app.master, app.supervisor = "loaded", None, None
        self._forget_starter(app)
        self._tell_waiting(app, word)

    # -- ending ---------------------------------------------------------------------------------------------

    def _stop(self, apps: dict[str, _App], client: Client[Any], name: str) -> Any:
        app = apps.get(name)
        if app is None or app.status in {"loaded", "starting"}:
            return Reply(False, apps)
        if app.master is None:
            self._loaded_again(apps, name, "retry")
            return Reply(True, apps)
        if app.status == "running":
            app.status = "stopping"
            gen.cast(app.master, "stop", None)
        app.waiting.append(client)
        return NoReply(apps)

    def handle_info(self, message: Any, apps: dict[str, _App], /) -> NoReply[dict[str, _App]]:
        """See masters end, and starters."""
        match message:
            case Exit(pid=pid, reason=reason):
                for name, app in apps.items():
                    if app.master == pid:
                        self._ended(apps, name, reason)
            case Down(ref=ref):
                for name, app in apps.items():
                    # it died between the question and the start: a master that is there goes on without it
                    if app.starter == ref and app.master is None:
                        self._loaded_again(apps, name, "retry")
        return NoReply(apps)

    def _ended(self, apps: dict[str, _App], name: str, reason: Any) -> None:
        app = apps[name]
        status = app.status
        self._loaded_again(apps, name, True if status == "stopping" else "retry")
        log = logging.getLogger(LOGGER)
        if status == "stopping":
            log.info("application %s stopped", name)
        elif status == "running":
            fatal = ends_the_node(app.type, reason)
            level = logging.ERROR if fatal or is_abnormal(reason) else logging.INFO
            tail = "; the node goes down with it" if fatal else ""
            log.log(level, "application %s (%s) ended: %s%s", name, app.type, describe(reason), tail)
            if fatal:
                halt_node()

    def terminate(self, reason: Any, apps: dict[str, _App], /) -> None:
        """Stop all applications, last started first, and wait for each."""
        for app in reversed(apps.values()):
            if app.master is not None:
                ref = process.monitor(app.master)
                gen.cast(app.master, "stop", None)
                process.receive(lambda message, ref=ref: isinstance(message, Down) and message.ref == ref)


def halt_node() -> None:
    """End the node: all that is started in it stops in order, the program that owns it goes on without one."""
    context = current()
    peer = context.peer(LAUNCHER_ID)
    if peer is not None:
        context.post(peer, context.codec.encode([wire.CAST, ["halt"]]))
