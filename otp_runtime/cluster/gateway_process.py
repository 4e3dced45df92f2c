"""The process of a gateway, from its first moment as a fresh interpreter to its last: see `gateway_start`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from otp_runtime.cluster.gateway import Gateway
from otp_runtime.cluster.joining import read_settings
from otp_runtime.cluster.mailroom import GatewayContext
from otp_runtime.cluster.pillars import Pillars
from otp_runtime.host import box as boxes
from otp_runtime.host import kernel
from otp_runtime.host.box import Box
from otp_runtime.host.directory import NodeDirectory
from otp_runtime.process import boot as booting
from otp_runtime.process import current, launcher, reports
from otp_runtime.process.handle import LAUNCHER_ID, NodeHandle


def main(argv: list[str]) -> int:
    """Be the process `argv[1]` of the node at `argv[0]`: see `gateway_start`."""
    path, number, boot_fd, reaper_pid, reaper_start, parent = argv
    os.set_inheritable(int(boot_fd), False)
    reaper = kernel.OsProcess(int(reaper_pid), int(reaper_start))
    if not kernel.die_with_parent(reaper):
        return 1
    kernel.raise_descriptor_limit()
    directory = NodeDirectory(path)
    name, incarnation, program = launcher.settle(directory, "otp:gateway")
    node = NodeHandle(directory, name, incarnation)
    boot = booting.Boot(node, int(boot_fd))
    box = Box.open(directory.box(int(number)))
    assert box is not None
    box.label = "gateway"
    context = GatewayContext(node, int(number), box, is_program=False, parent=int(parent))
    context.set_trap_exit(True)
    current.enter(node)
    current.become(context)
    booting.listen_to_signals(context, reaper)
    _report_as(directory, f"<{number}@{name}>")
    box.set_flag(boxes.READY, boxes.PLAIN)
    status = 1
    try:
        reason = asyncio.run(_live(context, boot, _pillars_of(directory, program)))
        status = booting.end(context, boot, reason)
    except BaseException as error:  # noqa: BLE001 - whatever ends a process is its exit reason
        booting.note_words(error)
        status = booting.end(context, boot, booting.reason_of(error, context))
    finally:
        os._exit(status)


async def _live(context: GatewayContext, boot: booting.Boot, pillars: Pillars) -> Any:
    return await Gateway(context, boot, read_settings(context.directory), pillars).run()


def _pillars_of(directory: NodeDirectory, program: int) -> Pillars:
    """Give the OS processes with which the node ends: its program, its launcher, its guard."""
    found = []
    for process_id in (program, LAUNCHER_ID):
        box = Box.open(directory.box(process_id))
        if box is not None:
            found.append(box.identity.os_process)
            box.close()
    guard = kernel.parent_of(found[-1].pid) if found else None
    if guard is not None and (start := kernel.start_time(guard)) is not None:
        found.append(kernel.OsProcess(guard, start))
    return Pillars(found)


def _report_as(directory: NodeDirectory, who: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [reports.forwarder(directory, "gateway", who)]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
