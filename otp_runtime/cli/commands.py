"""The commands and their options; each is performed by a function of its own, imported when it is asked for."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

from otp_runtime.cli import output
from otp_runtime.cli.failures import FAILED, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    _Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

CHAPTERS: Final = ("counter", "strategies", "crash", "upgrade", "cluster")
LEVELS: Final = ("debug", "info", "warning", "error")
SORT_KEYS: Final = ("id", "name", "memory", "handled", "queued", "started")
BENCH_NAMES: Final = ("call-one-core", "call-own-cores", "cast", "start", "restart")
CHAOS_KINDS: Final = ("kill", "segv", "stop", "exception", "hang", "oom")
TOP_SORT_KEYS: Final = ("cpu", "memory", "mailbox", "rate", "handled", "restarts", "busy", "started", "name", "id")

_EPILOG = """\
exit codes: 0 done, 1 the thing asked about failed, 2 wrong usage, 3 no such node or process, 4 the tree gave up

NAME is a local name or a pid (12, <12@node>). REQUEST is a Python literal ("('add', 2)"), else a bare word (inc).
The node is the one named by --node or OTP_NODE, else the only running one."""


def run_command(arguments: list[str] | None = None) -> int:
    """Run one command; give the exit code."""
    options = make_parser().parse_args(arguments)
    module, _, function = options.performed_by.partition(":")
    perform: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    if options.command != "run":
        # what an application prints is its own affair
        output.escape_the_unsayable()
    try:
        code = perform(options)
        sys.stdout.flush()
    except CommandError as error:
        print(f"otp: {error.text}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("otp: interrupted", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # the reader (head, less) has seen enough; nothing more may be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="otp",
        description="Erlang/OTP for Python: look at and handle the processes of a running node.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_running(commands)
    _add_looking(commands)
    _add_acting(commands)
    _add_keeping(commands)
    return parser


def _add_running(commands: _Commands) -> None:
    """Add what starts something of its own, or asks about the machine."""
    demo = _add(commands, "demo", "otp_runtime.cli.demo:perform", "see supervised processes die and come back")
    demo.add_argument("chapter", nargs="?", choices=CHAPTERS, help="one part of the story; default: all of it")

    run = _add(commands, "run", "otp_runtime.cli.run:perform", "run an application in the foreground")
    run.add_argument("app", metavar="module:app", help="an Application, a ChildSpec, a list of children, …")
    run.add_argument("--config", metavar="FILE", help="settings of applications (TOML); default: OTP_CONFIG")
    run.add_argument("--name", metavar="N", help="the node's name; default: OTP_NODE, else unnamed")

    run.add_argument("--cluster", metavar="WHERE", help="join a cluster: embedded[:NAME] or nats://host:port[/NAME]")
    run.add_argument(
        "--allow",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="what others may run here; repeat it",
    )
    run.add_argument("--lease", metavar="S", type=float, default=5.0, help="seconds until a silent node is lost")
    run.add_argument(
        "--credentials",
        metavar="FILE",
        help="who this node is there: a NATS credentials file, or one line user:password",
    )
    run.add_argument("--tls", metavar="ca=FILE,cert=FILE,key=FILE", help="speak TLS: whom to trust, who this node is")
    run.add_argument(
        "--reload", action="store_true", help="upgrade the tree when a .py file below this directory changes"
    )

    bench = _add(commands, "bench", "otp_runtime.cli.bench:perform", "measure on this machine, beside bare pipes")
    bench.add_argument("--only", type=_bench_names, metavar="NAME[,NAME]", help=f"of {', '.join(BENCH_NAMES)}")
    bench.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="for how long; default: 10")
    _may_be_json(bench)

    doctor = _add(commands, "doctor", "otp_runtime.cli.doctor:perform", "check that this machine can run nodes")
    _may_be_json(doctor)


def _add_looking(commands: _Commands) -> None:
    """Add what looks at a node and changes nothing."""
    tree = _add(commands, "tree", "otp_runtime.cli.looking:tree", "show the supervision tree")
    _about_a_node(tree)
    ps = _add(commands, "ps", "otp_runtime.cli.looking:ps", "list all processes")
    _about_a_node(ps)
    ps.add_argument("--sort", choices=SORT_KEYS, default="id", help="by what; default: id")

    _add_top(commands)

    inspect = _add(commands, "inspect", "otp_runtime.cli.looking:inspect", "say all that is known of a process")
    _about_a_process(inspect)
    why = _add(commands, "why", "otp_runtime.cli.looking:why", "explain the last death of a process")
    _about_a_process(why)
    why.add_argument("--all", action="store_true", help="all deaths on record (ten of each server), newest first")

    replay = _add(commands, "replay", "otp_runtime.cli.replay:perform", "run again what led to a recorded death")
    _about_a_process(replay)
    replay.add_argument("--at", type=_number, metavar="N", help="stop before message N; with --pdb: in its callback")
    replay.add_argument("--pdb", action="store_true", help="debug: at the exception, or from message N on")

    trace = _add(commands, "trace", "otp_runtime.cli.tracing:trace", "show every event of a server as it happens")
    _about_a_process(trace, timeout=5.0)
    trace.add_argument("--count", type=_number, metavar="N", help="end after so many events; default: Ctrl-C")

    logs = _add(commands, "logs", "otp_runtime.cli.logs:logs", "show the reports of a node as they come")
    _about_a_node(logs)
    logs.add_argument("--level", choices=LEVELS, default="debug", help="the lowest to show; default: all that is sent")
    logs.add_argument("--count", type=_number, metavar="N", help="end after so many reports; default: Ctrl-C")


def _add_top(commands: _Commands) -> None:
    top = _add(commands, "top", "otp_runtime.cli.top:perform", "show what all processes do, again and again")
    _about_a_node(top)
    top.add_argument("--sort", choices=TOP_SORT_KEYS, default="cpu", help="by what, greatest first; default: cpu")
    top.add_argument("--filter", metavar="TEXT", help="only those with TEXT in their name, class, kind or state")
    top.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="from one look to the next; default: 1"
    )
    often = top.add_mutually_exclusive_group()
    often.add_argument(
        "--once", dest="count", action="store_const", const=1, help="print one table, as without a terminal"
    )
    often.add_argument("--count", type=_number, metavar="N", help="print N tables; with --json a line each")


def _add_acting(commands: _Commands) -> None:
    """Add what is done to a process."""
    call = _add(commands, "call", "otp_runtime.cli.acting:call", "send a request and print the reply")
    _about_a_process(call, timeout=5.0)
    call.add_argument("request", metavar="REQUEST")
    cast = _add(commands, "cast", "otp_runtime.cli.acting:cast", "send a request that has no reply")
    _about_a_process(cast)
    cast.add_argument("request", metavar="REQUEST")
    stop = _add(commands, "stop", "otp_runtime.cli.acting:stop", "ask a process to end, and wait until it has")
    _about_a_process(stop, timeout=30.0)
    kill = _add(commands, "kill", "otp_runtime.cli.acting:kill", "kill a process (exit reason 'killed')")
    _about_a_process(kill)

    _add_chaos(commands)

    upgrade = _add(commands, "upgrade", "otp_runtime.cli.acting:upgrade", "go on with the code that is now on disk")
    _about_a_process(upgrade, timeout=30.0)
    upgrade.add_argument("--extra", metavar="TERM", help="what code_change is given: a Python literal or a word")


def _add_chaos(commands: _Commands) -> None:
    chaos = _add(commands, "chaos", "otp_runtime.cli.chaos:perform", "crash servers by choice; say how they came back")
    chaos.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="whom: servers, or supervisors for the servers below them; default: all that a supervisor brings back",
    )
    chaos.add_argument(
        "--kind",
        type=_chaos_kinds,
        action="extend",
        metavar="KIND[,KIND]",
        help=f"with what: {', '.join(CHAOS_KINDS)}; default: kill,segv,stop,exception",
    )
    chaos.add_argument("--rate", type=_rate, default=0.5, metavar="N", help="blows a second; default: 0.5")
    chaos.add_argument("--seconds", type=_seconds, default=20.0, metavar="S", help="for how long; default: 20")
    chaos.add_argument("--seed", type=_seed, metavar="N", help="repeats a run; default: drawn, and said")
    chaos.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="to die, and to answer again; default: 10"
    )
    chaos.add_argument("--only-supervised", action="store_true", help="leave out the NAMEs that nobody brings back")
    chaos.add_argument("--dry-run", action="store_true", help="only show who would be struck, with what, and when")
    chaos.add_argument("--yes", action="store_true", help="do it: without, nothing is struck")
    _about_a_node(chaos)


def _add_keeping(commands: _Commands) -> None:
    """Add what is done with the things that outlive a process."""
    state = _add(commands, "state", "otp_runtime.cli.state:perform", "look at durable states, and drop them")
    state.add_argument("what", choices=("ls", "show", "drop"), help="list them, print one, forget one")
    state.add_argument("key", nargs="?", metavar="KEY", help="as `ls` prints it: a server's name, or /Root/child/...")
    state.add_argument("--file", metavar="PATH", help="a database given as durable=PATH; default: all of this user's")
    _about_a_node(state, help="only the states of this node; default: OTP_NODE, else of all")

    letters = _add(commands, "letters", "otp_runtime.cli.letters:perform", "look at dead letters, and send them again")
    letters.add_argument(
        "what", nargs="?", choices=("ls", "show", "replay", "drop"), default="ls", help="list them (default), or one"
    )
    letters.add_argument("id", nargs="?", metavar="ID", help="as `ls` prints it")
    letters.add_argument("--all", action="store_true", help="replay or drop all of them")
    letters.add_argument("--to", metavar="NAME", help="replay to another server than the one it was sent to")
    _about_a_node(letters)


def _add(commands: _Commands, name: str, performed_by: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    parser.set_defaults(performed_by=performed_by)
    return parser


def _may_be_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _about_a_node(parser: argparse.ArgumentParser, help: str = "default: OTP_NODE, else the only running node") -> None:
    parser.add_argument("--node", metavar="NAME", help=help)
    _may_be_json(parser)


def _about_a_process(parser: argparse.ArgumentParser, timeout: float | None = None) -> None:
    parser.add_argument("name", metavar="NAME", help="a local name or a pid: counter, 12, <12@node>")
    _about_a_node(parser)
    if timeout is not None:
        parser.add_argument(
            "--timeout", type=_seconds, default=timeout, metavar="SECONDS", help=f"default: {timeout:g}"
        )


def _number(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")


def _bench_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name or not any(known.startswith(name) for known in BENCH_NAMES):
            raise argparse.ArgumentTypeError(f"no measure begins with {name!r}; there are {', '.join(BENCH_NAMES)}")
    return names


def _seed(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 0:
            return number
    raise argparse.ArgumentTypeError(f"a whole number from 0 on is needed, not {text!r}")


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (rate := float(text)) < float("inf"):
            return rate
    raise argparse.ArgumentTypeError(f"a number of blows a second above 0 is needed, not {text!r}")


def _chaos_kinds(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",")]
    for kind in kinds:
        if kind not in CHAOS_KINDS:
            raise argparse.ArgumentTypeError(f"{kind!r} is no kind; there are {', '.join(CHAOS_KINDS)}")
    return kinds


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"a number of seconds above 0 is needed, not {text!r}")
