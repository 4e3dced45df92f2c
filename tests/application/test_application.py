"""Applications: what must run before what, how they start and stop, what their end means."""

import pytest

from otp_runtime import (
    AlreadyStarted,
    Application,
    Down,
    GenServer,
    InitFailed,
    NotStarted,
    Supervisor,
    application,
    process,
)
from otp_runtime.application import AppInfo
from otp_runtime.testing import assert_receive, sigkill
from tests.application.apps import (
    BadPhase,
    BadPrepStop,
    BadReturn,
    Bare,
    Broken,
    Library,
    Slow,
    Stock,
    WebShop,
    Whole,
)

pytestmark = pytest.mark.usefixtures("otp_node")


def names():
    return [app.name for app in application.which_applications()]


def told():
    """What the applications told so far, in order."""
    return [message for message in process.flush() if isinstance(message, tuple)]


class TestStart:
    def test_it_gives_the_top_supervisor(self, watcher):
        """After the callback, which got type and arguments."""
        pid = application.start(Stock)

        assert ("start", "stock", "normal", ("stock args",)) == process.receive(tuple, 5.0)
        assert ["stock_worker"] == [one.id for one in Supervisor.which_children(pid)]
        assert pid == application.get_supervisor(Stock) == application.get_supervisor("stock")

    def test_a_pid_alone_is_enough(self):
        """Then there is no state."""
        assert application.start(Bare) == application.get_supervisor(Bare)

    def test_twice(self):
        """Is told by whom it is started."""
        pid = application.start(Stock)
        with pytest.raises(AlreadyStarted) as caught:
            application.start(Stock)

        assert pid == caught.value.pid

    def test_what_it_needs_must_run(self):
        """It starts nothing itself."""
        with pytest.raises(NotStarted, match="'stock' is not started"):
            application.start(WebShop)

        assert [] == names()

    def test_one_without_a_process(self):
        """Is started when what it needs is, and has no supervisor."""
        assert application.start(Library) is None
        assert ["library"] == names()
        assert application.get_supervisor(Library) is None

    @pytest.mark.parametrize(("app", "reason"), [(Broken, "ValueError"), (BadReturn, "bad_return")])
    def test_one_that_fails(self, app, reason):
        """The caller hears why; it can be tried again."""
        application.start(Stock)
        for _ in range(2):
            with pytest.raises(InitFailed) as caught:
                application.start(app)

            assert reason in str(caught.value)
        assert ["stock"] == names()

    def test_a_second_starter_waits_for_the_first(self, watcher):
        """And is told that it is started."""
        process.spawn(application.start, Slow)
        assert_receive(("slow",), 5.0)
        process.spawn(lambda: process.send("watcher", second_start()))
        application.load(Stock)  # the controller answers others meanwhile
        process.send("slow", "go")

        told_second = process.receive(("second", ...), 10.0)

        assert ("second", application.get_supervisor(Slow)) == told_second

    def test_a_start_whose_starter_died(self, watcher):
        """Goes on; a second starter finds it started."""
        starter = process.spawn(application.start, Slow)
        assert_receive(("slow",), 5.0)
        process.exit(starter, "kill")
        starter.wait(5.0)
        process.send("slow", "go")
        with pytest.raises(AlreadyStarted):
            application.start(Slow)

        assert ["slow"] == names()

    @pytest.mark.parametrize("type", ["always", None])
    def test_a_wrong_type_is_refused(self, type):
        """Before anything is loaded."""
        with pytest.raises(ValueError, match="'permanent', 'transient' or 'temporary'"):
            application.start(Stock, type)

        assert [] == application.loaded_applications()

    @pytest.mark.parametrize("app", [GenServer, Application, "no_such", 7])
    def test_what_is_no_application_is_refused(self, app):
        """Saying what is."""
        with pytest.raises(TypeError, match="is no Application"):
            application.start(app)


def second_start():
    try:
        application.start(Slow)
    except AlreadyStarted as error:
        return "second", error.pid


class TestPhases:
    def test_included_applications_join_in(self, watcher):
        """In the order of the including one's phases; what only the included one has is left out."""
        application.start(Whole)
        found = told()

        assert ("start", "whole", "normal", None) == found[0]
        assert [
            ("phase", "whole", "load", "normal", 1),
            ("phase", "whole", "open", "normal", 2),
            ("phase", "part", "open", "normal", "part open"),
        ] == found[1:]

    def test_what_is_included_is_loaded_and_not_started(self):
        """Its settings are there for the tree that it is part of."""
        application.start(Whole)

        assert ["whole"] == names()
        assert {"whole", "part"} == {app.name for app in application.loaded_applications()}
        assert "whole" == application.get_env("part", "of")

    def test_one_that_fails_leaves_nothing(self, watcher):
        """The tree that had started is stopped again."""
        with pytest.raises(InitFailed, match="no phase"):
            application.start(BadPhase)

        assert ("worker stopped", "bad_phase") in told()
        assert process.whereis("bad_phase_worker") is None


class TestEnsureAllStarted:
    def test_what_it_needs_starts_first(self):
        """In the order in which it is listed; those that run are left alone."""
        application.start(Library)

        assert ["stock", "web_shop"] == application.ensure_all_started(WebShop)
        assert ["library", "stock", "web_shop"] == names()
        assert [] == application.ensure_all_started(WebShop)

    def test_one_fails(self):
        """Those started now are stopped again."""
        with pytest.raises(InitFailed):
            application.ensure_all_started(Broken)

        assert [] == names()

    def test_a_circle(self):
        """Is named."""

        class First(Application):
            applications = ("tests.application.test_application:Second",)

        Second.applications = (First,)
        with pytest.raises(ValueError, match="first → second → first"):
            application.ensure_all_started(First)

    def test_by_module_and_class(self):
        """As in a list of what is needed."""
        assert ["stock"] == application.ensure_all_started("tests.application.apps:Stock")


class Second(Application):
    """Of a circle."""


class TestStop:
    def test_in_order(self, watcher):
        """Prepare, the tree, clean up; the state goes through."""
        application.start(Stock)
        told()
        application.stop(Stock)

        assert [
            ("prep_stop", "stock state"),
            ("worker stopped", "stock"),
            ("stop", "stock state, prepared"),
        ] == told()

    def test_what_it_needed_stays(self):
        """And it is loaded still, and can be started again."""
        application.ensure_all_started(WebShop)
        application.stop("web_shop")

        assert ["stock", "library"] == names()
        assert "web_shop" in [app.name for app in application.loaded_applications()]
        assert ["web_shop"] == application.ensure_all_started(WebShop)

    def test_the_type_does_not_matter(self):
        """It was asked for, so the node stays."""
        application.start(Stock, "permanent")
        application.stop(Stock)

        assert [] == names()

    def test_one_without_a_process(self):
        """Is just no longer started."""
        application.start(Library)
        application.stop(Library)

        assert [] == names()

    def test_one_that_is_not_started(self):
        """Is an error."""
        application.load(Stock)
        for app in (Stock, "nobody"):
            with pytest.raises(NotStarted):
                application.stop(app)

    def test_a_failing_prep_stop_does_not_keep_it(self, watcher):
        """It is logged, and the stop goes on."""
        application.start(BadPrepStop)
        told()
        application.stop(BadPrepStop)

        assert [("worker stopped", "bad_prep_stop"), ("stop", "bad_prep_stop state")] == told()


class TestItsEnd:
    def test_of_a_temporary_one(self, watcher):
        """It cleans up, is reported, and nothing else happens."""
        application.ensure_all_started(WebShop)
        told()
        sigkill("web_shop_worker")
        process.receive(("stop", ...), 5.0)
        wait_ended("web_shop")

        assert ["stock", "library"] == names()

    def test_of_a_transient_one(self):
        """Normal is fine."""
        supervisor = application.start(Stock, "transient")
        Supervisor.stop(supervisor, "normal")
        wait_ended("stock")

        assert [] == names()

    def test_can_be_started_again(self):
        """After it was reported."""
        supervisor = application.start(Stock)
        Supervisor.stop(supervisor, "shutdown")
        wait_ended("stock")

        assert application.start(Stock) != supervisor

    def test_of_its_master(self, watcher):
        """Its tree ends with it."""
        application.start(Stock)
        info = process.info(process.whereis("stock_worker"))
        master = next(pid for pid in process.list() if process.info(pid).label == "application master")
        process.monitor(info.pid)
        process.exit(master, "kill")

        assert "shutdown" == assert_receive(Down, 5.0).reason
        wait_ended("stock")


def wait_ended(name):
    """Wait until the controller knows that an application has ended."""
    while name in names():
        pass


class TestLists:
    def test_say_what_it_is(self):
        """Name, description, version."""
        application.start(Stock)

        assert [AppInfo("stock", "What there is", "1.2")] == application.which_applications()
        assert application.started_applications is application.which_applications

    def test_load_says_whether_it_was_not_before(self):
        """Starting loads."""
        assert [True, False] == [application.load(Stock), application.load(Stock)]
        assert ["stock"] == [app.name for app in application.loaded_applications()]


class TestTheClass:
    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"name": "Web Shop"}, "lower case"),
            ({"applications": "stock"}, "tuple of Application classes"),
            ({"applications": (GenServer,)}, "tuple of Application classes"),
            ({"included_applications": ("stock",)}, "'module:Class'"),
            ({"env": [1]}, "mapping of names"),
            ({"env": {1: 2}}, "mapping of names"),
            ({"start": None}, "method"),
        ],
    )
    def test_what_cannot_work_is_refused(self, fields, text):
        """When the class is made, saying what to write instead."""
        with pytest.raises(TypeError, match=text):
            type("Wrong", (Application,), fields)

    def test_its_name(self):
        """Its own in lower case, unless it says another."""
        assert ("web_shop", "bad_phase") == (WebShop.name, BadPhase.name)
