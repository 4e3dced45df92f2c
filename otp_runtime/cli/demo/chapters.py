"""The chapters of the story. Each starts what it needs, breaks it, and checks what it says."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING, Any, Literal

import psutil

from otp_runtime.behaviours.agent import Agent
from otp_runtime.behaviours.gen_server import GenServer
from otp_runtime.cli.demo.new_code import hot_upgrade
from otp_runtime.cli.demo.servers import Counter
from otp_runtime.cli.demo.story import ClaimFailed, Story, milliseconds
from otp_runtime.cli.demo.together import two_nodes
from otp_runtime.cli.demo.why_it_died import a_state_that_survives, why_it_died
from otp_runtime.cli.failures import DONE, FAILED
from otp_runtime.errors import AlreadyStarted, CallTimeout
from otp_runtime.host import kernel
from otp_runtime.observe.tree import observe
from otp_runtime.process import current, death
from otp_runtime.process import primitives as process
from otp_runtime.process.node import Node
from otp_runtime.supervision.supervisor import Supervisor
from otp_runtime.terms.reason import Crash, Exited, Signalled, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.terms.pid import Pid

WAIT_SECONDS = 5.0
FROZEN_CALL_SECONDS = 0.1
SHUTDOWN_SECONDS = 0.2
START = 10


def tell(chapter: str | None) -> int:
    """Tell the whole story or one part of it; give the exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # leave no core files
    story = Story()
    name = f"demo{os.getpid()}"
    seen: dict[int, int] = {}
    try:
        with story.telling():
            Node.start(name)
            try:
                _introduce(story, name)
                for tell_chapter in PARTS[chapter]:
                    tell_chapter(story)
                    _remember_processes(seen)
            finally:
                directory = current.current().directory.path
                Node.stop()
            _end(story, seen, directory)
    except ClaimFailed as failure:
        print(f"this claim does not hold: {failure}", flush=True)
        return FAILED
    print(f"\n{story.claims} claims checked, all hold", flush=True)
    return DONE


def _introduce(story: Story, name: str) -> None:
    story.line(story.paint("Processes that die, and come back", "bold"))
    story.line("")
    story.say("Every server below is an OS process of its own, watched by a supervisor, which is one too.")
    story.say("Lines with ✓ are checked while you read, against the kernel where it knows.")
    story.say(f"To look in from another terminal: python -m otp_runtime tree --node {name}")


def _remember_processes(seen: dict[int, int]) -> None:
    for one in observe(current.current().directory, memory=False).tree:
        seen[one.os_pid] = kernel.start_time(one.os_pid) or 0


def _end(story: Story, seen: dict[int, int], directory: Any) -> None:
    story.chapter("The end")
    story.say("The program leaves: its trees stop, last started first, then the node.")
    left = [os_pid for os_pid, start in seen.items() if kernel.start_time(os_pid) == start]
    story.claim("no process is left behind", not left)
    story.claim("no file is left behind", not directory.exists())


# -- a counter ---------------------------------------------------------------------------------------------------------


def a_counter(story: Story) -> None:
    """The seed: inc, dec, val."""
    story.chapter("A counter")
    children = [Counter.child_spec(START, name="counter")]
    with Supervisor.start_link(children, strategy="one_for_one", name="supervisor") as supervisor:
        counter = process.whereis("counter")
        assert counter is not None
        story.say(f'A supervisor starts a counter at {START} and gives it the name "counter".')
        story.tree()
        story.claim(f'Counter.val("counter") answers {START}', Counter.val("counter") == START)
        Counter.inc("counter")
        Counter.inc("counter")
        Counter.dec("counter")
        story.claim(f"after inc, inc, dec it answers {START + 1}", Counter.val("counter") == START + 1)
        here = os.getpid()
        story.claim(
            f"it runs in OS process {counter.os_pid}, this program in {here}", counter.os_pid not in {None, here}
        )
        parent = psutil.Process(counter.os_pid).ppid()
        story.claim(f"its OS parent {parent} is the supervisor: one tree, the kernel's", parent == supervisor.os_pid)


def a_name(story: Story) -> None:
    """A name outlives the process that has it."""
    story.chapter("A name")
    children = [Counter.child_spec(START, name="counter")]
    with Supervisor.start_link(children, strategy="one_for_one", name="supervisor"):
        first = process.whereis("counter")
        assert first is not None
        story.claim(f'"counter" means {first}', process.whereis("counter") == first)
        story.claim("a second process cannot take the name", _is_taken("counter", first))
        _kill(first)
        first.wait(WAIT_SECONDS)
        value = Counter.val("counter")
        second = process.whereis("counter")
        story.hear("counter")
        story.claim(
            f"killed, and called at once by its name: the call waits for the new one, which answers {value}",
            value == START,
        )
        story.claim(f'now "counter" means {second}', second not in {None, first})


def _is_taken(name: str, by: Pid) -> bool:
    try:
        Counter.start(0, name=name)
    except AlreadyStarted as error:
        return bool(error.pid == by)
    return False


def an_agent(story: Story) -> None:
    """An agent runs functions that it is sent."""
    story.chapter("An agent")
    story.say("An agent keeps a state and runs functions that it is sent: lambdas and closures, too.")
    pears = 4
    with Agent.start_link(lambda: {"apples": 3}, name="basket") as basket:
        story.tree()
        Agent.update("basket", lambda fruit: {**fruit, "pears": pears})
        total = Agent.get("basket", lambda fruit: sum(fruit.values()))
        story.claim(f"3 apples and {pears} pears are {total}", total == 3 + pears)
        where = Agent.get("basket", lambda _fruit: os.getpid())
        story.claim(f"the sum was made in OS process {where}, the agent's", where == basket.os_pid)


# -- five ways to die --------------------------------------------------------------------------------------------------


def crash(story: Story) -> None:
    """The counter dies in five ways and answers again."""
    story.chapter("Five ways to die")
    story.say(f"The counter is killed five times. Each time a fresh one answers {START}, under the same name.")
    children = [Counter.child_spec(START, name="counter", shutdown=SHUTDOWN_SECONDS)]
    with Supervisor.start_link(children, strategy="one_for_one", max_restarts=10, name="supervisor") as supervisor:
        for way, break_it, is_expected in _WAYS:
            _die_once(story, way, break_it, is_expected)
        _freeze(story, supervisor)


def _kill(pid: Pid) -> None:
    """Kill -9, as any stranger could."""
    os_pid = pid.os_pid
    assert os_pid is not None
    os.kill(os_pid, signal.SIGKILL)


_WAYS: tuple[tuple[str, Callable[[Pid], None], Callable[[Any], bool]], ...] = (
    (
        "an exception in a callback",
        lambda pid: Counter.die(pid, "exception"),
        lambda reason: isinstance(reason, Crash) and reason.type == "ValueError",
    ),
    ("os._exit(3), without a word", lambda pid: Counter.die(pid, "os._exit"), lambda reason: reason == Exited(3)),
    (
        "a bug in C code (SIGSEGV)",
        lambda pid: Counter.die(pid, "SIGSEGV"),
        lambda reason: isinstance(reason, Signalled) and reason.name == "SIGSEGV",
    ),
    ("kill -9 from outside", _kill, lambda reason: reason == Signalled("SIGKILL")),
)


def _die_once(story: Story, way: str, break_it: Callable[[Pid], None], is_expected: Callable[[Any], bool]) -> None:
    old = process.whereis("counter")
    assert old is not None
    old_os_pid = old.os_pid
    Counter.inc("counter")
    started = time.perf_counter()
    break_it(old)
    reason = old.wait(WAIT_SECONDS)
    value = Counter.val("counter")
    took = milliseconds(started)
    story.line("")
    story.say(f"{story.paint(way, 'bold')}")
    report = story.hear("counter").get("counter")
    story.claim(f"reported, with its reason: {describe(reason)}", is_expected(reason) and _tells(report, reason))
    _claim_back(story, old, old_os_pid, value, took)


def _tells(report: Any, reason: Any) -> bool:
    return report is not None and report.reason == describe(reason)


def _claim_back(story: Story, old: Pid, old_os_pid: int | None, value: int, took: str) -> None:
    new = process.whereis("counter")
    assert new is not None
    story.claim(
        f"a new process (OS {old_os_pid} → {new.os_pid}) answers {value}, {took} after the blow",
        new != old and new.os_pid != old_os_pid and value == START,
    )


def _freeze(story: Story, supervisor: Pid) -> None:
    story.line("")
    story.say(f"{story.paint('frozen (SIGSTOP): it is alive and never answers', 'bold')}")
    old = process.whereis("counter")
    assert old is not None
    old_os_pid = old.os_pid
    assert old_os_pid is not None
    os.kill(old_os_pid, signal.SIGSTOP)
    story.tree()
    story.claim(f"a call gives up after {FROZEN_CALL_SECONDS:g} s, as it was told to", _times_out("counter"))
    started = time.perf_counter()
    Supervisor.terminate_child(supervisor, "counter")
    reason = old.wait(WAIT_SECONDS)
    story.hear("counter")
    story.claim(f"told to stop, it gets {SHUTDOWN_SECONDS:g} s, then it is {describe(reason)}", reason == "killed")
    Supervisor.restart_child(supervisor, "counter")
    _claim_back(story, old, old_os_pid, Counter.val("counter"), milliseconds(started))


def _times_out(name: str) -> bool:
    try:
        Counter.val(name, timeout=FROZEN_CALL_SECONDS)
    except CallTimeout:
        return True
    return False


# -- strategies --------------------------------------------------------------------------------------------------------

STRATEGIES: tuple[Literal["one_for_one", "one_for_all", "rest_for_one"], ...] = (
    "one_for_one",
    "one_for_all",
    "rest_for_one",
)


def strategies(story: Story) -> None:
    """Who is restarted when one of three dies."""
    story.chapter("One of three dies: who is restarted?")
    story.say(
        "Three supervisors, each with a, b and c, started in this order. Each has another strategy. Every b is killed."
    )
    with contextlib.ExitStack() as open_supervisors:
        supervisors = {
            one: open_supervisors.enter_context(
                Supervisor.start_link(
                    [Counter.child_spec(START, id=id, name=f"{one}.{id}") for id in "abc"],
                    strategy=one,
                    name=one,
                )
            )
            for one in STRATEGIES
        }
        story.tree()
        before = {one: _children(supervisor) for one, supervisor in supervisors.items()}
        for one in STRATEGIES:
            victim = before[one]["b"]
            _kill(victim)
            victim.wait(WAIT_SECONDS)
        after = {one: _children(supervisor) for one, supervisor in supervisors.items()}
        story.hear(*(f"{one}.b" for one in STRATEGIES))
        restarted = {one: {id for id in "abc" if after[one][id] != before[one][id]} for one in STRATEGIES}
        rows = [["", *STRATEGIES]]
        for id, title in (("a", "a"), ("b", "b (killed)"), ("c", "c")):
            rows.append([title, *("restarted" if id in restarted[one] else "kept" for one in STRATEGIES)])
        story.table(rows)
        story.claim("one_for_one restarts b alone", restarted["one_for_one"] == {"b"})
        story.claim("one_for_all restarts all three", restarted["one_for_all"] == {"a", "b", "c"})
        story.claim("rest_for_one restarts b and what was started after it", restarted["rest_for_one"] == {"b", "c"})


def _children(supervisor: Pid) -> dict[str, Any]:
    """Give the pids by id; the supervisor answers when the restart under way is done."""
    return {one.id: one.pid for one in Supervisor.which_children(supervisor)}


# -- restart types -----------------------------------------------------------------------------------------------------

TYPES: tuple[Literal["permanent", "transient", "temporary"], ...] = ("permanent", "transient", "temporary")
ENDS = ("normal", "shutdown", "crash")


def restart_types(story: Story) -> None:
    """Which ends are followed by a restart."""
    story.chapter("Who is restarted after which end?")
    story.say("Nine counters: three restart types, each ended normally, by a shutdown, and by a crash.")
    children = [Counter.child_spec(START, name=f"{kind}.{end}", restart=kind) for kind in TYPES for end in ENDS]
    with Supervisor.start_link(children, strategy="one_for_one", max_restarts=10, name="supervisor") as supervisor:
        before = after = _children(supervisor)
        for name, pid in before.items():
            _end_by(pid, name.partition(".")[2])
            after = _children(supervisor)
        story.hear(*(f"{kind}.crash" for kind in TYPES))
        back = {name for name, pid in before.items() if after.get(name) not in {None, pid}}
        rows = [["ends by", *ENDS]]
        rows += [[kind, *("restarted" if f"{kind}.{end}" in back else "stays away" for end in ENDS)] for kind in TYPES]
        story.table(rows)
        permanent = {f"permanent.{end}" for end in ENDS}
        story.claim("a permanent one is restarted whatever its end", permanent <= back)
        story.claim("a transient one only after a crash", {n for n in back if n[:5] == "trans"} == {"transient.crash"})
        story.claim("a temporary one never", not any(name.startswith("temporary") for name in back))
        answers = sum(Counter.val(name) for name in back)
        story.claim(f"those that are back answer {START} each", answers == START * len(back))


def _end_by(pid: Pid, end: str) -> None:
    if end == "crash":
        Counter.die(pid, "exception")
        pid.wait(WAIT_SECONDS)
    else:
        GenServer.stop(pid, end, WAIT_SECONDS)


# -- intensity ---------------------------------------------------------------------------------------------------------


def giving_up(story: Story) -> None:
    """A supervisor that restarts too often gives up, and its parent heals it."""
    story.chapter("Giving up, and being healed")
    story.say('A "team" supervisor allows 2 restarts in 5 s; above it is a "parent". The worker is killed three times.')
    team = Supervisor.child_spec(
        [Counter.child_spec(START, name="worker")], strategy="one_for_one", max_restarts=2, max_seconds=5, name="team"
    )
    with Supervisor.start_link([team], strategy="one_for_one", name="parent") as parent:
        story.tree()
        first = process.whereis("team")
        assert first is not None
        for _ in range(2):
            _kill_worker()
            Counter.val("worker")
            story.hear("worker")
        story.claim("twice the team restarts its worker", process.whereis("team") == first)
        _kill_worker()
        reason = first.wait(WAIT_SECONDS)
        story.hear("team")
        record = death.why("team")
        gave_up = any(one.context == "shutdown" for one in death.records(current.current().directory))
        story.claim(f"the third is one too many: the team gives up and ends ({describe(reason)})", reason == "shutdown")
        story.claim("the reason is on record", gave_up and record is not None)
        second = _children(parent)["team"]
        value = Counter.val("worker")
        story.tree()
        story.claim(f"the parent started a new team: {first} → {second}", second not in {None, first, "restarting"})
        story.claim(f"and its new worker answers {value}", value == START)


def _kill_worker() -> None:
    worker = process.whereis("worker")
    assert worker is not None
    _kill(worker)
    worker.wait(WAIT_SECONDS)


_COUNTER = (a_counter, a_name, an_agent)
_CRASH = (crash, a_state_that_survives, why_it_died)
_STRATEGIES = (strategies, restart_types, giving_up)
PARTS: dict[str | None, tuple[Callable[[Story], None], ...]] = {
    None: (a_counter, *_CRASH, a_name, strategies, restart_types, giving_up, an_agent, hot_upgrade, two_nodes),
    "counter": _COUNTER,
    "crash": _CRASH,
    "strategies": _STRATEGIES,
    "upgrade": (hot_upgrade,),
    "cluster": (two_nodes,),
}
