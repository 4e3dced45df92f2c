"""Which process runs here: the context of this thread."""

from __future__ import annotations

import gc
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from otp_runtime.core.names import Held
from otp_runtime.host import box as boxes
from otp_runtime.host.box import Box
from otp_runtime.host.fates import DEAD
from otp_runtime.host.kernel import own_process
from otp_runtime.process import names
from otp_runtime.process.context import Context
from otp_runtime.process.handle import LAUNCHER_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.host.siblings import SiblingMaker
    from otp_runtime.process.handle import NodeHandle


class _Local(threading.local):
    context: Context | None = None
    guard: Any = None


here = _local = _Local()
_abandoned: list[Any] = []
_contexts: dict[int, ref[Context]] = {}
"""By identity, which the dead give up before another may have it. No WeakSet, whose Python a new process would run."""
_node: NodeHandle | None = None
_join: Callable[[], NodeHandle] | None = None


def node() -> NodeHandle | None:
    """Give the node this OS process belongs to, if any."""
    return _node


def has_ended() -> bool:
    """Say whether this OS process belonged to a node that has ended."""
    return _node is not None and _node.gone


def enter(handle: NodeHandle | None) -> None:
    """Make this OS process one of a node's, or of none."""
    global _node
    _node = handle


def join_with(function: Callable[[], NodeHandle]) -> None:
    """Say how a program that uses the library for the first time gets a node."""
    global _join
    _join = function


def current() -> Context:
    """Give the process that this thread is, making it one if need be."""
    context = _local.context
    if context is not None and not context.node.gone:
        return context
    return _enrol()


def peek() -> Context | None:
    """Give the process that this thread is, None when it is none yet."""
    context = _local.context
    return None if context is None or context.node.gone else context


def become(context: Context | None) -> None:
    """Make this thread a process."""
    _local.context = context
    if context is not None:
        key = id(context)
        _contexts[key] = ref(context, partial(_contexts.pop, key))


def forget(context: Context) -> None:
    """This OS process is that process no longer."""
    _contexts.pop(id(context), None)


def contexts() -> list[Context]:
    """Give every process that a thread of this OS process is."""
    return [context for known in list(_contexts.values()) if (context := known()) is not None]


def close_all() -> None:
    """Close what this OS process has open of a node that is over for it."""
    for context in contexts():
        context.close()
    _contexts.clear()
    _local.context = None
    _local.guard = None


def _enrol() -> Context:
    if _node is None or _node.gone:
        if _join is None:
            msg = "no node; import otp_runtime.process.node"
            raise RuntimeError(msg)
        _join()
        if _local.context is not None and not _local.context.node.gone:
            return _local.context
    assert _node is not None
    context = new_thread_context(_node)
    become(context)
    _local.guard = _SignOff(context)
    return context


def new_thread_context(handle: NodeHandle) -> Context:
    """Make a process of a thread."""
    process_id = handle.directory.next_id()
    handle.directory.make_mailbox(process_id)
    box = Box.create(handle.directory.box(process_id), process_id, LAUNCHER_ID, boxes.KIND_THREAD, time.time())
    if (server := _server()) is not None:
        server.box.set_flag(boxes.THREADS)
    box.label = f"thread {threading.current_thread().name}"
    context = Context(handle, process_id, box, is_program=True)
    box.inhabit(own_process())
    box.set_flag(boxes.READY, boxes.PLAIN)
    return context


def _server() -> Context | None:
    """Give the server that this OS process is, None in a program."""
    return next((context for context in contexts() if not context.is_program), None)


class _SignOff:
    """Lives in a thread's local storage: when the thread ends, its process ends "normal"."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._os_pid = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._os_pid and not self._context.node.gone:
            sign_off(self._context)


def sign_off(context: Context) -> None:
    """End the process that a thread was."""
    if not os.path.exists(context.directory.log):
        # the node ended first: nothing is left to sign off from
        context.close()
        return
    if context.box.name:
        names.unregister(context.directory, context.box.name, Held(context.id))
    context.directory.seal_fate(context.id, DEAD)
    context.box.judge(context.codec.encode("normal"), f"{context.directory.box(context.id)}.verdict")
    context.close()
    context.directory.forget(context.id)


def _after_fork_in_child() -> None:
    """Make a user's own fork harmless: a second reader would steal messages.

    The child closes what it inherited of its parent's process and becomes a new process of the node, or of a
    node of its own, at its first use of the library.
    """
    global _node
    guard, _local.guard, _local.context = _local.guard, None, None
    _abandoned.append((guard, _node))
    for context in contexts():
        _abandoned.append(context)
        context.close()
    _contexts.clear()
    for reset in _on_fork:
        reset()
    _node = None


imports_ahead = 0
"""How often this OS parent has imported something for its children: what it forked before has not got that."""


def note_import_ahead() -> None:
    """Count an import that is made for those who are forked later."""
    global imports_ahead
    imports_ahead += 1


_on_fork: list[Callable[[], None]] = []
_forks_are_ours = False


def on_users_fork(reset: Callable[[], None]) -> None:
    """Call `reset` in the child of a fork that the user made."""
    _on_fork.append(reset)


def fork_for_child() -> int:
    """Fork for a process of the node: the child drops its parent's process without touching it."""
    global _forks_are_ours
    _forks_are_ours = True
    try:
        pid = os.fork()
    finally:
        _forks_are_ours = False
    if pid == 0:
        # the objects stay alive for ever: closing a descriptor number twice could close a stranger's
        _abandoned.append((_local.context, _node))
        _local.context = None
        _contexts.clear()
        gc.freeze()
    return pid


def _dispatch_fork() -> None:
    if not _forks_are_ours:
        _after_fork_in_child()


def fork_sibling(maker: SiblingMaker) -> int:
    """As `fork_for_child`, in a process that is a process of the node only for being forked."""
    global _forks_are_ours
    _forks_are_ours = True
    try:
        return maker.fork()
    finally:
        _forks_are_ours = False


os.register_at_fork(after_in_child=_dispatch_fork)
