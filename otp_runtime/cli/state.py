"""`otp state`: the states that servers with `durable` keep on disk. No node need be running."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output
from otp_runtime.cli.failures import DONE, CommandError, NoSuchThing, WrongUsage
from otp_runtime.errors import DurableStateError
from otp_runtime.host import durable
from otp_runtime.process import data, death
from otp_runtime.process import node as nodes

if TYPE_CHECKING:
    import argparse

    from otp_runtime.host.durable import Row


def perform(options: argparse.Namespace) -> int:
    """List, show or drop. Raises `NoSuchThing` for a key that is not there, `CommandError` for a bad database."""
    if (options.key is None) != (options.what == "ls"):
        raise WrongUsage("state ls takes no KEY" if options.key else f"state {options.what} needs a KEY; see: state ls")
    try:
        found = _rows(options)
        if options.what == "ls":
            return _list(options, found)
        path, row = _chosen(options.key, found)
        return (_show if options.what == "show" else _drop)(options, path, row)
    except DurableStateError as error:
        raise CommandError(str(error)) from error


def _rows(options: argparse.Namespace) -> list[tuple[str, Row]]:
    node = options.node or os.environ.get("OTP_NODE") or None
    if node is not None and node != data.UNNAMED:
        try:
            node = nodes.full_name(node)
        except ValueError as error:
            raise WrongUsage(str(error)) from error
    if options.file is not None:
        if not os.path.exists(options.file):
            raise NoSuchThing(f"there is no file {options.file}")
        paths = [options.file]
    else:
        paths = [str(path) for path in sorted(data.directory().glob("*.db"))]
    return [(path, row) for path in paths for row in durable.rows_of(path) if node in {None, row.node}]


def _chosen(key: str, found: list[tuple[str, Row]]) -> tuple[str, Row]:
    mine = [(path, row) for path, row in found if row.key == key]
    if not mine:
        known = ", ".join(dict.fromkeys(row.key for _path, row in found)) or "none"
        raise NoSuchThing(f"no durable state is kept under {key!r}; there are: {known}")
    if len(mine) > 1:
        places = "\n".join(f"  --node {row.node} --file {path}" for path, row in mine)
        raise NoSuchThing(f"{len(mine)} states are kept under {key!r}; say which:\n{places}")
    return mine[0]


def _facts(path: str, row: Row) -> dict[str, Any]:
    return {
        "key": row.key,
        "node": row.node,
        "class": row.class_name,
        "generation": row.generation,
        "bytes": row.size,
        "saved_at": row.saved_at,
        "held_by": row.holder or None,
        "file": path,
    }


def _list(options: argparse.Namespace, found: list[tuple[str, Row]]) -> int:
    if options.json:
        output.print_json([_facts(path, row) for path, row in found])
        return DONE
    head = ("KEY", "NODE", "CLASS", "GENERATION", "BYTES", "SAVED", "HELD BY", "FILE")
    rows = [head]
    for path, row in found:
        saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.saved_at))
        held = f"OS pid {row.holder}" if row.holder else "-"
        rows.append(
            (row.key, row.node, row.class_name, str(row.generation), str(row.size), saved, held, Path(path).name)
        )
    print("\n".join(output.table(rows, right=(3, 4))))
    return DONE


def _show(options: argparse.Namespace, path: str, row: Row) -> int:
    text = death.describe_state(durable.body_of(path, row), None)
    if text is None:
        raise CommandError(f"the state of {row.key!r} in {path} cannot be read")
    if options.json:
        output.print_json({**_facts(path, row), "state": text})
    else:
        print(text)
    return DONE


def _drop(options: argparse.Namespace, path: str, row: Row) -> int:
    if row.holder:
        raise CommandError(f"{row.key!r} is held by the running OS process {row.holder}: stop its server first")
    durable.drop(path, row)
    if options.json:
        output.print_json({**_facts(path, row), "dropped": True})
    else:
        print(f"dropped the state of {row.key!r} ({row.class_name}, generation {row.generation})")
    return DONE


__all__ = ["perform"]
