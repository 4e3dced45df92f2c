"""Event handlers that the tests add. Importable and light."""

from otp_runtime import EventHandler, ExitWith, NoReply, Ok, RemoveHandler, Reply, Stop, SwapHandler, process


class Teller(EventHandler):
    """Its state is a name and whom it tells what it sees; a function that it sees, it runs."""

    def init(self, arg):
        if callable(arg):
            return arg()
        return arg

    def handle_event(self, event, state):
        return self.see("event", event, state)

    def handle_info(self, message, state):
        return self.see("info", message, state)

    def handle_call(self, request, state):
        return request(state) if callable(request) else Reply((state[0], request), state)

    def see(self, kind, what, state):
        name, to = state
        if callable(what):
            return what(state)
        process.send(to, (kind, name, what))
        return NoReply(state)

    def terminate(self, arg, state):
        name, to = state
        process.send(to, ("terminate", name, arg))
        return ("left by", name)

    def code_change(self, old_vsn, state, extra):
        return (extra, state[1])

    def format_status(self, status):
        return {**status, "state": "<redacted>"}


class Other(Teller):
    """Another class; takes over from whom it is swapped in for."""

    def init(self, arg):
        new_arg, value = arg
        if new_arg == "refuse":
            return Stop("refused")
        name, to = new_arg
        process.send(to, ("init", name, value))
        return Ok(new_arg)


class Bare(EventHandler):
    """Nothing but what it inherits."""


class LeavesBadly(Teller):
    def terminate(self, arg, state):
        raise ValueError("bad end")


def boom(*_args):
    raise ValueError("boom")


def leave(*_args):
    raise ExitWith("leave")


def remove(state):
    return RemoveHandler("gone")


def swap(state):
    return SwapHandler("arg", state, (Other, 1), ("new", state[1]), reply="swapped")


def swap_badly(state):
    return SwapHandler("arg", state, Other, "refuse")


def add_supervised(manager, handler, arg, to):
    """A process that has a handler supervised, and tells what it hears."""
    from otp_runtime import GenEvent

    process.trap_exit(True)
    GenEvent.add_sup_handler(manager, handler, arg)
    process.send(to, "added")
    while True:
        message = process.receive()
        if message == "stop":
            return
        process.send(to, message)
