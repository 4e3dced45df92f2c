"""Family B: dynamic supervisors. The root is one, and starts empty; below it may be static trees."""

import dataclasses
import itertools

from otp_runtime import DynamicSupervisor, Pid
from tests.conformance.recorder import Line
from tests.conformance.supervision import SupervisionPlayer, child_spec, outcome_of


class Root(DynamicSupervisor):
    def init(self, arg):
        path, spec = arg
        line = Line(path)
        generation, _ = outcome_of(line, spec, "supervisor")
        line.log("start", spec["id"], generation)
        return DynamicSupervisor.spec(
            max_children=spec.get("max_children"),
            max_restarts=spec.get("max_restarts", 3),
            max_seconds=spec.get("max_seconds", 60),
        )


class DynamicSupervisorPlayer(SupervisionPlayer):
    def setup(self, setup):
        return super().setup({"tree": {**setup["tree"], "type": "supervisor"}})

    def start_root(self):
        return Root.start_link((self.recorder.path, self.root))

    def is_dynamic(self, sup):
        return sup == self.root["id"]

    def op_start_child(self, sup, child):
        if not self.is_dynamic(sup):
            return super().op_start_child(sup, child)
        spec = self.learn_child(sup, child)

        def start():
            return DynamicSupervisor.start_child(self.pid(sup), child_spec(self.recorder.path, spec, self.above(sup)))

        result = self.child_result(spec["id"], self.outcome(start))
        return "ignore" if result == ["ok", "undefined"] else result

    def op_terminate_child(self, sup, id):
        if not self.is_dynamic(sup):
            return super().op_terminate_child(sup, id)
        return self.bare(DynamicSupervisor.terminate_child, self.pid(sup), self.pid(id))

    # -- the state of a step ---------------------------------------------------------------------------------------

    def children_of(self, id, pid):
        """In this family in the order of their names, in static supervisors too.

        Dynamic children have no ids: who a process is, the recorder was told.
        """
        if not self.is_dynamic(id):
            return sorted(super().children_of(id, pid), key=repr)
        children = DynamicSupervisor.which_children(pid)
        named = (dataclasses.replace(one, id=self.recorder.pids.get(self.number(one))) for one in children)
        return sorted(named, key=repr)

    def number(self, child):
        return child.pid.id if isinstance(child.pid, Pid) else None

    def count_of(self, id, pid):
        return DynamicSupervisor.count_children(pid) if self.is_dynamic(id) else super().count_of(id, pid)

    def _step(self, action, result):
        """Children stop concurrently: runs of `terminate` events are sorted."""
        step = super()._step(action, result)
        runs = itertools.groupby(step["events"], key=lambda event: event[0] == "terminate")
        step["events"] = [one for stop, run in runs for one in (sorted(run, key=repr) if stop else run)]
        return step
