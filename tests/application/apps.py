"""Applications that tell a process named "watcher" what is done with them. Importable and light."""

from typing import ClassVar

from otp_runtime import Agent, Application, GenServer, Supervisor, application, process


def tell(*what):
    """Tell the test, if it wants to know: a process, or a file where a setting says so."""
    if process.whereis("watcher") is not None:
        process.send("watcher", what)
    if (path := application.get_env("stock", "told")) is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{' '.join(map(str, what[:2]))}\n")


class Worker(GenServer):
    """The child of an application."""

    trap_exit = True

    def terminate(self, reason, state):
        tell("worker stopped", state)


class Told(Application):
    """What the others here have in common."""

    def start(self, type, args):
        tell("start", self.name, type, args)
        spec = Worker.child_spec(self.name, name=f"{self.name}_worker")
        pid = Supervisor.start_link([spec], strategy="one_for_one", max_restarts=0)
        return pid, f"{self.name} state"

    def start_phase(self, phase, type, args):
        tell("phase", self.name, phase, type, args)

    def prep_stop(self, state):
        tell("prep_stop", state)
        return f"{state}, prepared"

    def stop(self, state):
        tell("stop", state)


class Stock(Told):
    description = "What there is"
    vsn = "1.2"
    env: ClassVar = {"size": 3, "colour": "red", "deep": {"a": (1, 2)}}
    args = ("stock args",)


class Library(Application):
    env: ClassVar = {"level": 1}


class WebShop(Told):
    applications = (Stock, "tests.application.apps:Library")


class Bare(Application):
    """Gives the pid alone."""

    def start(self, type, args):
        return Supervisor.start_link([Agent.child_spec(dict)], strategy="one_for_one")


class Broken(Told):
    applications = (Stock,)

    def start(self, type, args):
        raise ValueError("no luck")


class BadReturn(Application):
    def start(self, type, args):
        return "started"


class Slow(Application):
    """Starts when it is told to."""

    def start(self, type, args):
        process.register(process.self(), "slow")
        tell("slow")
        process.receive("go")
        return Supervisor.start_link([], strategy="one_for_one")


class Part(Told):
    start_phases = (("warm", "part warm"), ("open", "part open"))
    env: ClassVar = {"of": "whole"}


class Whole(Told):
    included_applications = (Part,)
    start_phases = (("load", 1), ("open", 2))


class BadPhase(Whole):
    name = "bad_phase"
    start_phases = (("load", 1),)

    def start_phase(self, phase, type, args):
        raise ValueError("no phase")


class BadPrepStop(Told):
    def prep_stop(self, state):
        raise ValueError("no stop")


class Reader(Application):
    """Reads its settings where it runs."""

    env: ClassVar = {"greeting": "hello"}

    def start(self, type, args):
        greeting = application.get_env(Reader, "greeting")
        return Supervisor.start_link([Agent.child_spec(lambda: greeting, name="reader")], strategy="one_for_one")
