"""`otp letters`: messages that were in hand when their server died, once too often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otp_runtime.cli import output, target
from otp_runtime.cli.failures import DONE, CommandError, NoSuchThing, WrongUsage
from otp_runtime.core import messages as wire
from otp_runtime.errors import CodecError, OtpError
from otp_runtime.host import poller
from otp_runtime.process import client, letters, names
from otp_runtime.process import primitives as process
from otp_runtime.process.current import current

if TYPE_CHECKING:
    import argparse

    from otp_runtime.host.directory import NodeDirectory
    from otp_runtime.process.letters import DeadLetter

MESSAGE_COLUMNS = 60


def perform(options: argparse.Namespace) -> int:
    """List, show, replay or drop. Raises `NoSuchThing` for an id or a server that is not there."""
    _check_usage(options)
    directory = target.find_node(options.node)
    found = letters.dead_letters(directory)
    if options.what == "ls":
        return _list(options, found)
    chosen = found if options.all else [_chosen(options.id, found)]
    match options.what:
        case "show":
            return _show(options, chosen[0])
        case "replay":
            return _replay(options, directory, chosen)
        case _:
            return _drop(options, directory, chosen)


def _check_usage(options: argparse.Namespace) -> None:
    what = options.what
    if what == "ls" and (options.id or options.all):
        raise WrongUsage("letters ls takes no ID")
    if what == "show" and options.all:
        raise WrongUsage("letters show takes one ID; all of them are listed by: letters ls")
    if what != "ls" and bool(options.id) == options.all:
        more = "" if what == "show" else ", or --all"
        raise WrongUsage(f"letters {what} needs an ID{more}; see: letters ls")
    if options.to is not None and what != "replay":
        raise WrongUsage(f"--to belongs to letters replay, not to letters {what}")


def _chosen(letter_id: str, found: list[DeadLetter]) -> DeadLetter:
    for letter in found:
        if letter.id == letter_id:
            return letter
    known = ", ".join(letter.id for letter in found) or "none"
    raise NoSuchThing(f"no dead letter has the id {letter_id!r}; there are: {known}")


def _list(options: argparse.Namespace, found: list[DeadLetter]) -> int:
    if options.json:
        output.print_json([letter.to_json() for letter in found])
        return DONE
    rows = [("ID", "SERVER", "DEATHS", "AT", "MESSAGE", "LAST REASON")]
    for letter in found:
        message = output.cut(letter.message, MESSAGE_COLUMNS)
        rows.append(
            (letter.id, letter.server, str(len(letter.deaths)), _when(letter.at), message, _line(letter.reason))
        )
    print("\n".join(output.table(rows, right=(2,))))
    return DONE


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _line(text: str) -> str:
    return text.split("\n", maxsplit=1)[0]


def _show(options: argparse.Namespace, letter: DeadLetter) -> int:
    if options.json:
        output.print_json(letter.to_json())
        return DONE
    print(f"{letter.id}  {letter.server}  {letter.message}")
    for one in letter.deaths:
        print(f"  {_when(one['at'])}  {one['reason']}")
    return DONE


def _drop(options: argparse.Namespace, directory: NodeDirectory, chosen: list[DeadLetter]) -> int:
    dropped = [letter for letter in chosen if letters.drop(directory, letter.id)]
    if options.json:
        output.print_json([letter.to_json() for letter in dropped])
    else:
        print(f"dropped {output.count(len(dropped), 'letter')}")
    return DONE


# -- replay ------------------------------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace, directory: NodeDirectory, chosen: list[DeadLetter]) -> int:
    """Send letters again, oldest first; each is dropped when it is sent, and a call when it is answered."""
    target.join(directory)
    answers = []
    for letter in chosen:
        server = options.to or letter.server
        where = target.reference(directory, target.look(directory), server)
        reply = _send(letter, where, server)
        letters.drop(directory, letter.id)
        answers.append(letter.to_json() | {"to": server, "reply": reply[0] if reply else None})
        if not options.json:
            print(f"sent {letter.id} to {server}: {letter.message}")
            if reply:
                print(f"  its reply: {reply[0]}")
    if options.json:
        output.print_json(answers)
    return DONE


def _send(letter: DeadLetter, where: Any, server: str) -> tuple[str] | None:
    """Send one; a call is asked again, as who asked is gone, and its reply given as a text."""
    context = current()
    try:
        if letter.payload[:2] == wire.CALL_HEAD:
            return (repr(client.request(where, context.codec.decode(letter.payload)[3], 5.0)),)
        peer = names.find(context, where, poller.now() + 5.0)
        process.deliver(context, peer, letter.payload, 5.0)
    except CodecError as error:
        raise CommandError(f"letter {letter.id} cannot be read here: {error}") from error
    except OtpError as error:
        raise CommandError(f"letter {letter.id} could not be sent to {server}, and is kept: {error}") from error
    return None


__all__ = ["perform"]
