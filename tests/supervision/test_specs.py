"""Specs and flags: what is wrong is said before anything starts. And supervisors of a user's own class."""

import os

import pytest

from otp_runtime import (
    Agent,
    AlreadyStarted,
    BadChildSpec,
    BadSupervisorFlags,
    ChildSpec,
    DuplicateChild,
    GenServer,
    InitFailed,
    Reply,
    SpecError,
    StartFailed,
    Supervisor,
    process,
    system,
)
from otp_runtime.supervision import preload
from otp_runtime.testing import sigkill
from tests.supervision.children import Recorder, Top, ignore_it
from tests.supervision.recorded import Machine, Recorded
from tests.supervision.watching import restart, shown

START = (Recorder.start_link, (("/dev/null", "x"),), {})


class TestBadSpec:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", []),
            ("id", None),
            ("start", None),
            ("start", (1, (), {})),
            ("start", (int, [], {})),
            ("start", (int, ())),
            ("restart", "always"),
            ("restart", None),
            ("shutdown", -1),
            ("shutdown", "soon"),
            ("shutdown", True),
            ("shutdown", float("nan")),
            ("shutdown", float("inf")),
            ("type", "boss"),
            ("significant", 1),
            ("preload", "all"),
            ("preload", (1,)),
        ],
    )
    def test_each_field(self, record, field, value):
        """Named, with its value and what is allowed; the children before it were not started."""
        fields = {"id": "x", "start": START, field: value}
        with pytest.raises(BadChildSpec) as error:
            Supervisor.start_link([record.spec("a"), ChildSpec(**fields)], strategy="one_for_one")

        assert error.value.field == field
        assert error.value.allowed
        assert f"{field}=" in str(error.value)
        assert record.take() == []

    @pytest.mark.parametrize("child", [42, "Recorder", None, (Recorder, 1, 2), int, {"id": "x"}])
    def test_no_spec_at_all(self, record, child):
        """As well."""
        with pytest.raises(BadChildSpec):
            Supervisor.start_link([record.spec("a"), child], strategy="one_for_one")

        assert record.take() == []

    def test_two_of_one_id(self, record):
        """Which."""
        with pytest.raises(DuplicateChild) as error:
            Supervisor.start_link([record.spec("a"), record.spec("b"), record.spec("a")], strategy="one_for_one")

        assert (error.value.id, record.take()) == ("a", [])

    @pytest.mark.parametrize("auto_shutdown", ["never", "any_significant"])
    def test_significant_where_it_makes_no_sense(self, record, auto_shutdown):
        """A permanent child never ends for good; under `never` it has no meaning."""
        restart_type = "permanent" if auto_shutdown != "never" else "transient"
        with pytest.raises(BadChildSpec) as error:
            Supervisor.start_link(
                [record.spec("a", restart=restart_type, significant=True)],
                strategy="one_for_one",
                auto_shutdown=auto_shutdown,
            )

        assert error.value.field == "significant"

    def test_what_cannot_travel(self, record, unsendable):
        """In the caller, with the child's id."""
        from otp_runtime import CodecError

        with pytest.raises(CodecError, match="child 'x'"):
            Supervisor.start_link([ChildSpec("x", (int, (unsendable["lock"],), {}))], strategy="one_for_one")

    def test_all_are_spec_errors(self):
        """To catch them together."""
        assert {BadChildSpec, BadSupervisorFlags, DuplicateChild} <= set(SpecError.__subclasses__()) | {
            cls for base in SpecError.__subclasses__() for cls in base.__subclasses__()
        }


class TestBadFlags:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("strategy", "all_for_one"),
            ("strategy", None),
            ("max_restarts", -1),
            ("max_restarts", 1.5),
            ("max_restarts", True),
            ("max_seconds", 0),
            ("max_seconds", -1),
            ("max_seconds", "5"),
            ("auto_shutdown", "always"),
        ],
    )
    def test_each(self, record, field, value):
        """Named; nothing starts."""
        flags = {"strategy": "one_for_one", field: value}
        with pytest.raises(BadSupervisorFlags) as error:
            Supervisor.start_link([record.spec("a")], **flags)

        assert (error.value.field, error.value.value, record.take()) == (field, value, [])

    def test_no_strategy(self, record):
        """There is no default."""
        with pytest.raises(TypeError, match="strategy"):
            Supervisor.start_link([record.spec("a")])

    def test_an_unknown_flag(self, record):
        """Is a mistake."""
        with pytest.raises(TypeError, match="intensity"):
            Supervisor.start_link([record.spec("a")], strategy="one_for_one", intensity=3)


class TestInit:
    def test_says_what_it_is(self, record):
        """The argument is `init`'s."""
        with Top.start_link([record.spec("a")], name="top") as top:
            assert (process.whereis("top"), shown(top)) == (top, {"a": True})

    def test_runs_in_a_throw_away_process(self, record):
        """The supervisor's own never runs a user's code."""

        class Noting(Supervisor):
            def init(self, path):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(str(os.getpid()))
                return self.spec([], strategy="one_for_one")

        with Noting.start_link(f"{record.path}.pid") as top:
            with open(f"{record.path}.pid", encoding="utf-8") as file:
                ran_in = int(file.read())

            assert ran_in not in {top.os_pid, os.getpid()}

    def test_ignores(self, me):
        """None."""
        assert Top.start_link(ignore_it, name="top") is None
        assert process.whereis("top") is None

    @pytest.mark.parametrize("value", [None, 42, [], "one_for_one"])
    def test_a_bad_return(self, me, value):
        """Says which."""
        with pytest.raises(InitFailed) as error:
            Top.start_link(lambda: value)

        assert error.value.reason == ("bad_return", ("Top", "init", value))

    def test_raises(self, me):
        """As a server's."""
        with pytest.raises(InitFailed, match="ZeroDivisionError"):
            Top.start_link(lambda: 1 / 0)

    def test_dies(self, me):
        """As well."""
        with pytest.raises(InitFailed) as error:
            Top.start_link(lambda: os.kill(os.getpid(), 11))

        assert error.value.reason.name == "SIGSEGV"

    def test_a_bad_spec(self, record):
        """In `init`: nothing started."""
        with pytest.raises((InitFailed, SpecError), match="restart='always'"):
            Top.start_link(lambda: Supervisor.spec([record.spec("a", restart="always")], strategy="one_for_one"))

        assert record.take() == []

    def test_flags_beside_it(self, record):
        """Are a mistake: `init` gives them."""
        with pytest.raises(TypeError, match="strategy cannot be given here"):
            Top.start_link([], strategy="one_for_one")

    def test_name_taken(self, record):
        """By whom."""
        with Top.start_link([], name="top") as top:
            with pytest.raises(AlreadyStarted) as error:
                Top.start_link([record.spec("a")], name="top")

            assert (error.value.pid, record.take()) == (top, [])

    def test_as_a_child(self, record):
        """Its `init` runs again at each restart."""
        with Supervisor.start_link([Top.child_spec([record.spec("a")], name="inner")], strategy="one_for_one") as top:
            before = process.whereis("a")
            restart_of = sigkill("inner")

            assert GenServer.call("a", "ready?")
            assert process.whereis("a") != before
            assert process.whereis("inner") != restart_of
            assert shown(top) == {"inner": True}

    def test_a_child_that_fails(self, record):
        """Rolls back as in any."""
        record.mood("b", "custom")
        with pytest.raises(InitFailed) as error:
            Top.start_link([record.spec("a"), record.spec("b")])

        assert error.value.reason == ("shutdown", ("failed_to_start_child", "b", "custom"))
        assert record.take() == ["start a", "stop a shutdown"]


SEGFAULT = "import os, ctypes\nctypes.string_at(0)\n"
HANGING_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
SOUND = """
import os
from otp_runtime import GenServer, Reply
imported_by = os.getpid()
class Server(GenServer):
    def handle_call(self, request, client, state):
        return Reply((imported_by, os.getpid(), os.getppid()), state)
"""


class TestPreload:
    @pytest.fixture
    def module(self, record, tmp_path, monkeypatch):
        """Write a module that children can import and this program has not."""
        monkeypatch.syspath_prepend(str(tmp_path))

        def write(name, text):
            (tmp_path / f"{name}.py").write_text(text)
            return name

        return write

    def spec(self, module, **fields):
        return ChildSpec("x", (start_from, (module,), {}), restart="temporary", **fields)

    def test_sound_modules(self, module):
        """Are imported once, in the supervisor: a restart does not pay again."""
        name = module("sound_module", SOUND)
        with Supervisor.start_link([self.spec(name, preload=(name,))], strategy="one_for_one") as top:
            (child,) = Supervisor.which_children(top)
            imported_by, os_pid, parent = GenServer.call(child.pid, "who")

        assert imported_by == parent != os_pid

    def test_none(self, module):
        """With `preload=()` each child imports them itself."""
        name = module("not_preloaded", SOUND)
        with Supervisor.start_link([self.spec(name, preload=())], strategy="one_for_one") as top:
            (child,) = Supervisor.which_children(top)
            imported_by, os_pid, _parent = GenServer.call(child.pid, "who")

        assert imported_by == os_pid

    @pytest.mark.parametrize(
        ("spec", "late"),
        [
            (Recorded.child_spec(), ["recording_loop"]),
            (Agent.child_spec(dict, record=True), ["recording_loop"]),
            (Machine.child_spec(), ["recording_loop", "statem_server"]),
            (Recorded.child_spec(record=False), []),
            (Agent.child_spec(dict), []),
        ],
    )
    def test_what_the_library_imports_late(self, spec, late):
        """For some servers only: their supervisor imports it for them."""
        names = [name.rpartition(".")[2] for name in preload.modules_of(spec.start)]

        assert late == [name for name in names if name in {"recording_loop", "statem_server"}]

    @pytest.mark.parametrize("text", [SEGFAULT, "raise ImportError('no')", "import os; os._exit(3)", HANGING_THREAD])
    def test_an_import_that_fails(self, module, record, text):
        """Kills no supervisor; the others run."""
        name = module("failing_module", text)
        specs = [record.spec("a"), ChildSpec("b", record.spec("b").start, preload=(name,))]
        with Supervisor.start_link(specs, strategy="one_for_one") as top:
            restart("a")

            assert shown(top) == {"a": True, "b": True}

    def test_a_child_that_segfaults_at_its_import(self, module, record):
        """Fails alone."""
        name = module("segfaulting", SEGFAULT)
        with Supervisor.start_link([record.spec("a")], strategy="one_for_one") as top:
            with pytest.raises(StartFailed) as error:
                Supervisor.start_child(top, self.spec(name))

            assert error.value.reason.name == "SIGSEGV"
            assert shown(top) == {"a": True}


def start_from(module):
    import importlib

    return importlib.import_module(module).Server.start_link()


class TestStatus:
    def test_of_a_supervisor(self, record):
        """It answers as any server."""
        with Supervisor.start_link([record.spec("a")], strategy="rest_for_one", name="top"):
            status = system.get_status("top")

        assert (status["name"], status["strategy"], status["max_restarts"]) == ("top", "rest_for_one", 3)

    def test_many_trees_at_once(self, me):
        """Each by itself."""
        tops = [
            Supervisor.start_link([Agent.child_spec(int, name=f"agent{n}")], strategy="one_for_one") for n in range(5)
        ]
        answers = [Agent.get(f"agent{n}", lambda state: Reply(state, 1).value) for n in range(5)]
        for top in tops:
            Supervisor.stop(top)

        assert answers == [0] * 5
