"""Three children, the middle one is killed: which of them come back as new processes is the strategy's choice."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

from otp_runtime import GenServer, Reply, Supervisor, process

NAMES = ("first", "second", "third")


class Worker(GenServer):
    def handle_call(self, request, client, state):
        return Reply("here", state)


def replaced_under(strategy):
    """Kill the second of three and say which of them are other processes afterwards."""
    children = [Worker.child_spec(name=name) for name in NAMES]
    with Supervisor.start_link(children, strategy=strategy) as sup:
        before = {name: GenServer.whereis(name) for name in NAMES}
        process.exit(before["second"], "kill")
        before["second"].wait()
        for name in NAMES:  # by name, a call waits until the process is back; asked while it is stopped, it asks again
            GenServer.call(name, "there?", across_restart=True)
        after = {child.id: child.pid for child in Supervisor.which_children(sup)}
    return [name for name in NAMES if after[name] != before[name]]


for strategy in ("one_for_one", "rest_for_one", "one_for_all"):
    print(f"{strategy}: {', '.join(replaced_under(strategy))}")
