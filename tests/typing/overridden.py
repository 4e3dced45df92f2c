"""`start_link` and `child_spec` may be overridden with parameters of the class's own. Checked, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime import ChildSpec, GenServer, Pid, Supervisor

if TYPE_CHECKING:
    from otp_runtime.supervision.supervisor import SupervisorSpec


class Store(GenServer[dict[str, int]]):
    """Its own parameters."""

    @classmethod
    def start_link(cls, path: str, size: int = 3) -> Pid:
        """Pack them into one."""
        pid: Pid = super().start_link((path, size), name="store")
        return pid

    @classmethod
    def child_spec(cls, path: str) -> ChildSpec:
        """A default that the class knows better."""
        spec: ChildSpec = super().child_spec(path, restart="transient")
        return spec


class Tree(Supervisor):
    """The same for a supervisor."""

    @classmethod
    def start_link(cls, shards: int) -> Pid:
        """One argument, and a name that is always the same."""
        pid: Pid = super().start_link(shards, name="tree")
        return pid

    def init(self, shards: int) -> SupervisorSpec:
        """As many children."""
        return Supervisor.spec([Store.child_spec(f"shard-{n}") for n in range(shards)], strategy="one_for_all")


def main(anything: Any) -> None:
    """Calls of what was overridden are checked as it was written, all others as the base class says."""
    with Tree.start_link(3), Store.start_link("path", 4) as store:
        pid: Pid = store
        print(pid)
    Store.start_link(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tree.start_link()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    GenServer.start_link(0, nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    GenServer.start_link(0, overflow="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    GenServer.child_spec(0, restart="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Supervisor.start_link([], strategy="one_for_non")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
