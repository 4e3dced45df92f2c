"""What a `Pid` can do: wait for an end, be a context manager, tell its OS pid."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import CallTimeout, NoProcess, ServerDown
from otp_runtime.host import box as boxes
from otp_runtime.host import poller
from otp_runtime.host.box import Box
from otp_runtime.process import ending, route
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current
from otp_runtime.terms.pid import install_pid_services
from otp_runtime.terms.reason import is_abnormal

if TYPE_CHECKING:
    from otp_runtime.terms.pid import Pid


class PidServices:
    """Installed into `terms.pid`, which knows no process."""

    def os_pid(self, pid: Pid) -> int | None:
        """Give the number of the OS process that is `pid` now."""
        context = current()
        box = None if route.is_elsewhere(context, pid) else Box.open(context.directory.box(pid.id))
        if box is None:
            return None
        try:
            return None if box.flag(boxes.JUDGED) else box.identity.os_process.pid
        finally:
            box.close()

    def wait(self, pid: Pid, timeout: float | None) -> Any:
        """Block until `pid` has ended; give its reason."""
        context = current()
        started = poller.now()
        peer = context.peer(context.key_of(pid))
        if peer is None:
            return context.epitaph(context.key_of(pid))
        ended: list[Any] = []
        peer.waiters.append(ended.append)
        try:
            while not ended:
                left = None if timeout is None else started + timeout - poller.now()
                if left is not None and left <= 0:
                    raise CallTimeout(pid, "wait", poller.now() - started)
                context.pump(left)
        finally:
            with contextlib.suppress(ValueError):
                peer.waiters.remove(ended.append)
        return ended[0]

    async def wait_async(self, pid: Pid, timeout: float | None) -> Any:
        """As `wait`, in an event loop."""
        context = current()
        started = poller.now()
        peer = context.peer(context.key_of(pid))
        if peer is None:
            return context.epitaph(context.key_of(pid))
        ended = await ending.wait_for_end(context, peer, timeout)
        if ended is None:
            raise CallTimeout(pid, "wait", poller.now() - started)
        return ended[0]

    def enter(self, pid: Pid) -> None:
        """Begin a `with` block: only of a process that this program started."""
        context = current()
        if pid.incarnation != context.node.incarnation or pid.id not in context.node.started:
            msg = f"{pid!r} was not started by this program: a with block would stop somebody else's process"
            raise ValueError(msg)

    def leave(self, pid: Pid, exc: BaseException | None) -> None:
        """End the block: stop the process; say when it had ended otherwise."""
        context = current()
        peer = context.peer(context.key_of(pid))
        if peer is None or peer.id in context.dying:
            self._after(pid, self.wait(pid, None), exc)
            return
        is_supervisor = peer.box.kind == boxes.KIND_SUPERVISOR
        try:
            self._stop(pid, peer.box)
        except NoProcess:
            self._after(pid, context.epitaph(context.key_of(pid)), exc)
        except ServerDown as error:
            self._after(pid, error.reason, exc)
        else:
            # a supervisor that gave up ends as one that is stopped, and this process may not have seen it end
            self._after(pid, "shutdown" if is_supervisor else "normal", exc)

    def _stop(self, pid: Pid, box: Box) -> None:
        if box.flag(boxes.READY) == boxes.PLAIN:
            process.exit(pid, "shutdown")
            self.wait(pid, None)
            return
        reason = "shutdown" if box.kind == boxes.KIND_SUPERVISOR else "normal"
        try:
            ending.stop(pid, reason, current().node.started.get(pid.id))
        except CallTimeout:
            # stopped, flooded or deaf: it had the time that a supervisor would have given it
            process.exit(pid, "kill")
            raise ServerDown(self.wait(pid, None), pid) from None

    def _after(self, pid: Pid, reason: Any, exc: BaseException | None) -> None:
        if not is_abnormal(reason) and not self._gave_up(pid, reason):
            return
        error = ServerDown(reason, pid)
        if exc is None:
            raise error
        exc.add_note(f"and meanwhile {error}")

    def _gave_up(self, pid: Pid, reason: Any) -> bool:
        from otp_runtime.process import death

        if reason != "shutdown":
            return False
        found = death.why(pid)
        return found is not None and found.context == "shutdown"

    async def leave_async(self, pid: Pid, exc: BaseException | None) -> None:
        """As `leave`, in an event loop."""
        context = current()
        peer = context.peer(context.key_of(pid))
        if peer is None or peer.id in context.dying:
            self._after(pid, await self.wait_async(pid, None), exc)
            return
        is_supervisor = peer.box.kind == boxes.KIND_SUPERVISOR
        try:
            if peer.box.flag(boxes.READY) != boxes.PLAIN:
                await ending.astop(pid, "shutdown" if is_supervisor else "normal")
            else:
                process.exit(pid, "shutdown")
                await self.wait_async(pid, None)
        except NoProcess:
            self._after(pid, context.epitaph(context.key_of(pid)), exc)
        except ServerDown as error:
            self._after(pid, error.reason, exc)
        else:
            self._after(pid, "shutdown" if is_supervisor else "normal", exc)


install_pid_services(PidServices())
