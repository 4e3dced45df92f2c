"""Handing a server over to another OS process: the decisions of the OS parent, `step(phase, event)`.

    the parent's view            predecessor (old)              successor (new)
    ────────────────────         ─────────────────              ────────────────
    Preparing                    serves                         forked, loads the code
      Loaded ──► Park
    Parking                      ends its callback, release     waits
      Parked ──► Begin
    Converting                   parked: touches nothing        init, code_change, opens the mailbox
      Ready ──► Switch
    Switched                     ends                           takes over
      Served ──► Answer                                         serves

Until `Switch` the predecessor is the process, and nothing that it owns was touched: whatever goes wrong, the
successor is discarded, and only when *that* is gone (it may hold the port that the old one must open again) does
the old one resume. `Switch` is one step of the parent, which does not wait in it: there is no instant in which both
or neither are the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

# -- phases: where a handover is ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preparing:
    """The successor is started and loads the code; the predecessor serves."""


@dataclass(frozen=True, slots=True)
class Parking:
    """The predecessor was asked to stop at its next message boundary."""


@dataclass(frozen=True, slots=True)
class Converting:
    """The predecessor is parked; the successor runs `init` and `code_change`."""


@dataclass(frozen=True, slots=True)
class Switched:
    """The successor is the process; it has not said yet that it serves."""


@dataclass(frozen=True, slots=True)
class Discarding:
    """It failed for `reason`; the successor was killed and is not reaped yet."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Over:
    """It is done, or failed for good."""


Phase: TypeAlias = Preparing | Parking | Converting | Switched | Discarding | Over

# -- events: what happened ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """The successor has the code, and has touched nothing yet."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The predecessor wrote down all it has and touches nothing any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The predecessor cannot be handed over, for `reason`; it goes on."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Ready:
    """The successor has the state and has the mailbox open."""


@dataclass(frozen=True, slots=True)
class Served:
    """The successor serves."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The successor is dead and reaped, or never was, for `reason`."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """It must not go on, for `reason`: time is up, the process is to stop."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """The process is dead, for `reason`."""

    reason: Any


Event: TypeAlias = Loaded | Parked | Refused | Ready | Served | Gone | Failed | Ended

# -- actions: what the parent does --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Park:
    """Ask the predecessor to stop at its next message boundary."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Let the successor read what the predecessor wrote down."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Make the successor the process."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Kill the successor."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Let the predecessor go on, whether it is parked, about to be, or never heard of this."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell who asked: `reason` None for done, else a tuple of why not."""

    reason: tuple[Any] | None


Action: TypeAlias = Park | Begin | Switch | Discard | Resume | Answer


def step(phase: Phase, event: Event) -> tuple[Phase, tuple[Action, ...]]:
    """Decide what `event` changes and what is to be done. An event that comes too late changes nothing.

    >>> step(Preparing(), Gone("no such module"))
    (Over(), (Answer(reason=('no such module',)),))
    """
    match phase:
        case Over():
            return phase, ()
        case Discarding(reason):
            return (Over(), (Resume(), Answer((reason,)))) if isinstance(event, Gone) else (phase, ())
        case Switched():
            match event:
                case Served():
                    return Over(), (Answer(None),)
                case Ended(reason):
                    return Over(), (Answer((reason,)),)
            return phase, ()
        case Preparing() | Parking() | Converting():
            return _step_alive(phase, event)
        case _:
            assert_never(phase)


def _step_alive(phase: Preparing | Parking | Converting, event: Event) -> tuple[Phase, tuple[Action, ...]]:
    match phase, event:
        case Preparing(), Loaded():
            return Parking(), (Park(),)
        case Parking(), Parked():
            return Converting(), (Begin(),)
        case Converting(), Ready():
            return Switched(), (Switch(),)
        case Preparing(), Gone(reason):
            return Over(), (Answer((reason,)),)
        case _, Gone(reason):
            return Over(), (Resume(), Answer((reason,)))
        case Parking(), Failed(reason) | Ended(reason):
            # it may park this very moment: let it go on at once, the successor has touched nothing
            return Discarding(reason), (Resume(), Discard())
        case _, Failed(reason) | Refused(reason) | Ended(reason):
            return Discarding(reason), (Discard(),)
        case _:
            return phase, ()


__all__ = [
    "Action",
    "Answer",
    "Begin",
    "Converting",
    "Discard",
    "Discarding",
    "Ended",
    "Event",
    "Failed",
    "Gone",
    "Loaded",
    "Over",
    "Park",
    "Parked",
    "Parking",
    "Phase",
    "Preparing",
    "Ready",
    "Refused",
    "Resume",
    "Served",
    "Switch",
    "Switched",
    "step",
]
