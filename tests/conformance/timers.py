"""Family I: timers of plain processes."""

from otp_runtime import Pid, Ref, process, timer
from tests.conformance.links import Actor, LinksPlayer, is_command
from tests.conformance.player import QUIET_SECONDS, seconds


class TimerActor(Actor):
    def op_send_after(self, label, other, milliseconds, message):
        return self.started(label, process.send_after(self.pid(other), message, seconds(milliseconds)))

    def op_start_timer(self, label, other, milliseconds, message):
        return self.started(label, process.start_timer(self.pid(other), message, seconds(milliseconds)))

    def started(self, label, made):
        self.timers[label] = made
        self.labels[made.ref] = label
        return "ok"

    @property
    def timers(self):
        return self.__dict__.setdefault("_timers", {})

    def op_cancel_timer(self, label):
        return left(process.cancel_timer(self.timers[label]))

    def op_read_timer(self, label):
        return left(process.read_timer(self.timers[label]))

    def op_sleep(self, milliseconds):
        timer.sleep(seconds(milliseconds))
        return "ok"

    def op_receive(self, number):
        return [self.shown(process.receive(is_mail, QUIET_SECONDS)) for _ in range(number)]

    def op_flush(self):
        return [self.shown(message) for message in process.flush() if is_mail(message)]

    def op_wait_dead(self, other):
        pid: Pid = self.pid(other)
        pid.wait(QUIET_SECONDS)
        return "ok"

    def shown(self, message):
        match message:
            case ("timeout", Ref() as ref, inner):
                return ["timeout", self.labels.get(ref, "?"), self.shown(inner)]
            case _:
                return super().shown(message)


def is_mail(message):
    return not is_command(message)


def left(found):
    return False if found is None else "left"


class TimersPlayer(LinksPlayer):
    actor = TimerActor

    def setup(self, setup):
        super().setup(setup)
        # no step of its own in this family
