"""Who can be struck by `chaos`: the servers of a node that somebody brings back, and why the others are none."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.behaviours import gen
from otp_runtime.cli import target
from otp_runtime.cli.failures import NoSuchThing, WrongUsage
from otp_runtime.core import supervision as core
from otp_runtime.errors import OtpError
from otp_runtime.host import box as boxes
from otp_runtime.host.box import BoxView
from otp_runtime.terms.pid import Pid
from otp_runtime.testing.chaos import Victim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.observe.tree import NodeView, ProcessView

ASK_SECONDS = 5.0
SHOWN = 20


class Pool:
    """The servers that can be struck, and why the others cannot."""

    def __init__(self, directory: NodeDirectory, view: NodeView) -> None:
        self._directory = directory
        self.view = view
        self.victims: list[Victim] = []
        self.left_out: dict[str, str] = {}

    def gather(self, asked: list[str], *, only_supervised: bool) -> None:
        """Take those asked for, else all; of a supervisor asked for the servers below it."""
        chosen: dict[int, bool] = {}
        for text in asked:
            one = target.find_process(self._directory, self.view, text)
            if one.kind in {"program", "launcher"}:
                raise WrongUsage(f"{one.title} <{one.id}> is no server: chaos never ends a program or the node itself")
            for below in self._below(one):
                chosen[below.id] = chosen.get(below.id, False) or one.kind == "server"
        if not asked:
            chosen = {one.id: False for one in self.view.tree if one.kind == "server"}
        known = self._children()
        for one in self.view.tree:
            if one.id in chosen:
                self._take(one, known.get(one.id), is_told=chosen[one.id] and not only_supervised)
        if not self.victims:
            raise NoSuchThing(self._nobody())

    def _below(self, one: ProcessView) -> Iterator[ProcessView]:
        """Give the servers at or below a process."""
        if one.kind == "server":
            yield one
        for child in self.view.tree:
            if child.parent == one.id and one.kind == "supervisor":
                yield from self._below(child)

    def _children(self) -> dict[int, tuple[Pid, Any, Any]]:
        """Ask the supervisors for their children: by process id the supervisor, child id and restart type."""
        found: dict[int, tuple[Pid, Any, Any]] = {}
        for sup in self.view.tree:
            if sup.kind != "supervisor":
                continue
            under = Pid(self.view.name, sup.id, self.view.incarnation)
            with contextlib.suppress(OtpError):
                for child_id, pid, _type in gen.call(under, core.WhichChildren(), ASK_SECONDS):
                    if isinstance(pid, Pid):
                        found[pid.id] = (under, child_id, _restart(under, child_id))
        return found

    def _take(self, one: ProcessView, child: tuple[Pid, Any, Any] | None, *, is_told: bool) -> None:
        under, child_id, restart = child if child is not None else (None, None, None)
        why = self._why_not(one, child)
        if why and not (is_told and _is_server(self._directory, one)):
            self.left_out[f"{one.title} <{one.id}>"] = why
            return
        pid = Pid(self.view.name, one.id, self.view.incarnation)
        watched = _has_watchdog(self._directory, one)
        self.victims.append(Victim(one.title, pid, one.name, under, child_id, restart, watched))

    def _why_not(self, one: ProcessView, child: tuple[Pid, Any, Any] | None) -> str:
        """Say why a server is no victim unless it is named; nothing when it is."""
        if not _is_server(self._directory, one):
            return "it runs a function and answers nobody"
        if child is None:
            return "no supervisor looks after it"
        _under, child_id, restart = child
        if restart is None:
            return "what its dynamic supervisor would do cannot be asked"
        if restart == "temporary":
            return "it is temporary: nobody would bring it back"
        if one.name is None and child_id is None:
            return "it has neither a name nor a child id"
        return ""

    def _nobody(self) -> str:
        text = f"no server of {self.view.name} can be struck"
        reasons = "".join(f"\n  {who}: {why}" for who, why in list(self.left_out.items())[:SHOWN])
        return f"{text}:{reasons}" if reasons else f"{text}: none is running"


def _restart(under: Pid, child_id: Any) -> Any:
    """Give the restart type of a child; None of a dynamic supervisor's, which cannot be asked."""
    if child_id is None:
        return None
    with contextlib.suppress(OtpError):
        return gen.call(under, core.GetChildspec(child_id), ASK_SECONDS).restart
    return None


def _is_server(directory: NodeDirectory, one: ProcessView) -> bool:
    glance = boxes.glance(directory.box(one.id))
    return glance is not None and not glance.is_plain


def _has_watchdog(directory: NodeDirectory, one: ProcessView) -> bool:
    try:
        view = BoxView(directory.box(one.id))
    except OSError:
        return False
    try:
        return view.watchdog()[0] > 0
    finally:
        view.close()
