"""What the tests of tasks run in other processes. Importable and light: its imports are paid per process."""

from otp_runtime import Down, ExitWith, GenServer, NoReply, Reply, Task, process

LONG = 10.0


def fail():
    raise ValueError("boom")


def leave(reason):
    raise ExitWith(reason)


def forever(hold=None, *, trap=False):
    process.trap_exit(trap)
    if hold is not None:
        hold.arrive()
    while True:
        process.receive()


def owner(to, work, *, trap=False):
    """Be the owner of a task: do `work`, tell what came of it, and wait."""
    process.trap_exit(trap)
    process.send(to, ("did", work()))
    process.send(to, ("got", process.receive()))


def own_and_wait(to, fun, *args):
    """Start a task, tell its pid, and await it without catching anything."""
    task = Task.async_(fun, *args)
    process.send(to, task.pid)
    Task.await_(task, LONG)


def task_error(task):
    try:
        Task.await_(task)
    except ValueError as error:
        return str(error)


def square(number):
    return number * number


def odd_exits(number):
    if number % 2:
        raise ExitWith(("odd", number))
    return number


def wait_for(hold):
    hold.wait()
    return "through"


def wait_if(item):
    number, hold = item
    if hold is not None:
        hold.wait()
    return number


class Boss(GenServer):
    """Has its work done by tasks."""

    trap_exit = True

    def handle_call(self, request, client, state):
        match request:
            case "state":
                return Reply(state, state)
            case ("run", fun):
                task = Task.async_(fun)
                return NoReply((task, client))
            case ("await", fun):
                return Reply(Task.await_(Task.async_(fun)), state)

    def handle_info(self, message, state):
        match message, state:
            case Down(ref=ref), (Task(ref=awaited) as task, client) if ref == awaited:
                GenServer.reply(client, Task.yield_(task, 0))
                return NoReply(None)
        return NoReply(state)


class AsyncBoss(GenServer):
    """The same with `await`."""

    async def handle_call(self, request, client, state):
        return Reply(await Task.async_(request), state)
