"""A chat room across two nodes, each a program of its own: one is killed, and the other sees who left."""
# ruff: noqa: ANN001, ANN201 - without types, as one first writes it

import subprocess
import sys

from otp_runtime import Node, PresenceDiff, presence, process, pubsub

ROOM = "room:lobby"


def enter(name):
    pubsub.start()
    pubsub.subscribe(ROOM)
    presence.track(ROOM, name)


def wait_for(names):
    while {*presence.list(ROOM)} != names:
        process.receive(PresenceDiff, timeout=10.0)


name = "bob" if "bob" in sys.argv else "ada"
with Node.start(name, cluster="embedded:chat"):
    enter(name)
    if name == "bob":
        wait_for({"ada", "bob"})
        said = process.receive(tuple, timeout=10.0)[1]
        pubsub.broadcast_from(process.self(), ROOM, ("bob", "you said " + said))
        sys.exit(wait_for({"bob"}))
    with subprocess.Popen([sys.executable, __file__, "bob"]) as other:
        try:
            wait_for({"ada", "bob"})
            pubsub.broadcast_from(process.self(), ROOM, ("ada", "hello"))
            print("heard:", *process.receive(tuple, timeout=10.0))
        finally:
            other.kill()
        print("left:", *process.receive(lambda message: message.leaves, timeout=10.0).leaves)
    print("present:", *presence.list(ROOM))
