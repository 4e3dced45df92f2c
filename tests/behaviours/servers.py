"""Servers that the tests start. Importable and light: every process pays for this file's imports."""

from dataclasses import dataclass

from otp_runtime import ExitWith, GenServer, Ignore, NoReply, Ok, Reply, Stop, process


class Scripted(GenServer):
    """Does what its messages say: each is a function of what the callback is given. The state is theirs."""

    def init(self, arg):
        return arg() if callable(arg) else arg

    def handle_call(self, request, client, state):
        return request(client, state) if callable(request) else Reply(state, state)

    def handle_cast(self, request, state):
        return request(state)

    def handle_info(self, message, state):
        return message(state) if callable(message) else NoReply(state)

    def handle_continue(self, term, state):
        return term(state)


class Teller(Scripted):
    """As Scripted; its state is who is told of `handle_info`, `handle_continue` and `terminate`."""

    def handle_info(self, message, state):
        if callable(message):
            return message(state)
        process.send(state, ("info", message))
        return NoReply(state)

    def handle_continue(self, term, state):
        if callable(term):
            return term(state)
        process.send(state, ("continue", term))
        return NoReply(state)

    def terminate(self, reason, state):
        process.send(state, ("terminate", reason))


class Trapping(Teller):
    """A Teller that traps exits."""

    trap_exit = True


class TerminatesBadly(Scripted):
    """Its state says how its `terminate` ends."""

    def init(self, leave):
        return leave

    def terminate(self, reason, state):
        state()


class Bare(GenServer):
    """Nothing but what it inherits."""


class Redacting(Scripted):
    """Shows nobody its state."""

    def format_status(self, status):
        return {**status, "state": "<redacted>", "message": "<redacted message>"}


class RedactingBadly(Scripted):
    """Its redaction is broken."""

    def format_status(self, status):
        raise ValueError("broken")


@dataclass(frozen=True)
class Inc:
    """A request that is a class."""

    by: int = 1


class Counter(GenServer):
    """Counts what it is told."""

    def handle_call(self, request, client, state):
        match request:
            case Inc(by):
                return Reply(state + by, state + by)
            case "val":
                return Reply(state, state)

    def handle_cast(self, request, state):
        match request:
            case Inc(by):
                return NoReply(state + by)


# -- what servers are told to do --------------------------------------------------------------------------


def boom(*_args):
    raise ValueError("boom")


def exit_with(reason):
    def leave(*_args):
        raise ExitWith(reason)

    return leave


def ignore():
    return Ignore()


def stop(reason):
    return lambda: Stop(reason)


def ok(state, **options):
    return lambda: Ok(state, **options)


def set_state(state):
    return lambda client, _old: Reply("ok", state)
