"""A node of the test's own, which must leave nothing behind, and a supervisor for what the test starts in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import NotFound
from otp_runtime.process.node import Node
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.testing import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otp_runtime.terms.pid import Pid

MAX_RESTARTS = 1_000_000
END_SECONDS = 2.0
"""What a process of a node that was killed has to end: a promise."""


@dataclass(frozen=True, slots=True)
class PrivateNode:
    """The node of one test: its full name, and the base directory that only it uses."""

    name: str
    base: Path

    @property
    def directory(self) -> Path:
        """The node's own runtime directory."""
        (found,) = (entry for entry in self.base.iterdir() if (entry / "node").exists())
        return found


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """Let `OTP_RUNTIME_DIR` name a new directory, short and in memory where possible, for the time of the block.

    Nodes that end have to leave it empty; what does not is removed, and named in an AssertionError.
    """
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108 - mkdtemp makes it 0700
    base = Path(tempfile.mkdtemp(prefix="otp-", dir=parent))
    before = {key: os.environ.get(key) for key in ("OTP_RUNTIME_DIR", "OTP_NODE")}
    os.environ["OTP_RUNTIME_DIR"] = str(base)
    os.environ.pop("OTP_NODE", None)
    try:
        yield base
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
        left = leaks.files(base)
        shutil.rmtree(base, ignore_errors=True)
    if left:
        raise AssertionError(_listed(f"{len(left)} file(s) left in {base}", left))


@contextlib.contextmanager
def private_node(name: str | None = None, **options: Any) -> Iterator[PrivateNode]:
    """Start a node in a directory of its own; at the end of the block stop it and see that nothing is left.

    `options`: what else `Node.start` takes, such as `cluster`.

    Left is what was not there before: a process that descends from this one or names the directory, a descriptor,
    a file. Raises AssertionError that names all of it. `AlreadyStarted` when this program has a node.
    """
    before = leaks.take()
    with private_directory() as base:
        with Node.start(name, **options) as node:
            yield PrivateNode(node.name, base)
        left = [leaks.describe(one) for one in leaks.outlive(leaks.naming(str(base)), END_SECONDS)]
        left += [one for one in leaks.since(before) if one not in left]
        if left:
            raise AssertionError(_listed(f"the node {node.name} left {len(left)} thing(s)", left))


def _listed(what: str, things: list[str]) -> str:
    return f"{what}:" + "".join(f"\n  {one}" for one in things[:40])


class Supervised:
    """What `start_supervised` is: call it with a child spec to start one."""

    def __init__(self) -> None:
        """Start the supervisor, which brings back what dies and never gives up."""
        self.supervisor: Pid = Supervisor.start_link([], strategy="one_for_one", max_restarts=MAX_RESTARTS)

    def __call__(self, spec: Any) -> Pid | Any:
        """Start a child: a `ChildSpec`, a class or `(Class, arg)`; give its pid, None when its `init` ignored."""
        return Supervisor.start_child(self.supervisor, spec)

    def stop(self, id: Any) -> None:
        """Stop the child `id` and forget it; raises `NotFound`."""
        Supervisor.terminate_child(self.supervisor, id)
        with contextlib.suppress(NotFound):
            Supervisor.delete_child(self.supervisor, id)


@contextlib.contextmanager
def supervised() -> Iterator[Supervised]:
    """Start a supervisor for the time of the block; its children stop with it, last started first."""
    starter = Supervised()
    with starter.supervisor:
        yield starter
