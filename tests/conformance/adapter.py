"""Plays scenarios of any family on the public API, and compares. It knows the format, not the scenarios."""

from tests.conformance.agent import AgentPlayer
from tests.conformance.dynamic_supervisor import DynamicSupervisorPlayer
from tests.conformance.gen_server import GenServerPlayer
from tests.conformance.gen_statem import GenStatemPlayer
from tests.conformance.links import LinksPlayer
from tests.conformance.player import UNKNOWN
from tests.conformance.registry import RegistryPlayer
from tests.conformance.supervision import SupervisionPlayer
from tests.conformance.task import TaskPlayer
from tests.conformance.timers import TimersPlayer

PLAYERS = {
    "supervision": SupervisionPlayer,
    "dynamic_supervisor": DynamicSupervisorPlayer,
    "gen_server": GenServerPlayer,
    "sys": GenServerPlayer,
    "links": LinksPlayer,
    "agent": AgentPlayer,
    "gen_statem": GenStatemPlayer,
    "registry": RegistryPlayer,
    "task": TaskPlayer,
    "timers": TimersPlayer,
}
LACKING = frozenset()
"""Features of Erlang that the adapter cannot play."""


def play(scenario, recorder):
    """Play a scenario; give its trace."""
    return PLAYERS[scenario["family"]](recorder).play(scenario)


def differences(expected, trace):
    """Say where a trace differs from the golden one; "" when it does not."""
    found = []
    for number, golden in enumerate(expected):
        if number >= len(trace):
            found.append(f"step {number} ({golden['op']}) is missing")
            continue
        step = trace[number]
        for key, value in golden.items():
            if key not in step:
                continue
            wanted, got = canonical(golden["op"], key, value), canonical(golden["op"], key, step[key])
            if not agree(wanted, got):
                found.append(f"step {number} ({golden['op']}) {key}:\n  OTP  {wanted}\n  here {got}")
    return "\n".join(found)


def agree(golden, here):
    if golden == here or UNKNOWN in {str(golden), str(here)}:
        return True
    if isinstance(golden, list) and isinstance(here, list):
        return len(golden) == len(here) and all(map(agree, golden, here))
    if isinstance(golden, dict) and isinstance(here, dict):
        return golden.keys() == here.keys() and all(agree(golden[key], here[key]) for key in golden)
    return False


def canonical(op, key, value):
    """Take out what the library says in another way, on purpose."""
    if key == "mail" and isinstance(value, list):
        # a program does not get the EXIT of a normal end: it would fill up a mailbox that nobody reads
        return [one for one in value if one[2:] != ["normal"]]
    if key == "result" and isinstance(value, list) and value[:1] == ["raised"]:
        return ["raised"]
    if key == "result" and op == "change_code" and value not in ("ok", ["error", "not_suspended"]):
        # OTP wraps whatever code_change gave; what counts is that it failed, and the reason inside
        return ["error", innermost(value)]
    value = plain_spec_error(value)
    # nothing is started here when a spec is wrong, so nothing exits
    return [one for one in value if one[2] != "bad_spec"] if key == "exits" else value


def innermost(value):
    while isinstance(value, list) and value:
        value = value[-1] if len(value) == 2 else value[0]
    return value


def plain_spec_error(value):
    """A wrong spec is an exception with fields here, and a nested tuple in OTP."""
    if not isinstance(value, list):
        if isinstance(value, dict):
            return {key: plain_spec_error(part) for key, part in value.items()}
        return value
    if value and isinstance(value[0], str) and (value[0] in _SPEC_WORDS or value[0].startswith("invalid_")):
        return "bad_spec"
    return [plain_spec_error(part) for part in value]


_SPEC_WORDS = {"start_spec", "bad_combination", "supervisor_data", "bad_start_spec", "duplicate_child_name"}
