"""Durable states: which database, under which key, and in which encoding a state is kept beyond its node.

The key of a server is its local name; without one its lineage, "/Shop/tills/('till', 1)". The database of a node is
said in the node's own file, when the program starts it: `$XDG_DATA_HOME/otp_runtime/<node>.db`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from otp_runtime.errors import CodecError
from otp_runtime.host.durable import DurableStore
from otp_runtime.terms.codec import Codec

if TYPE_CHECKING:
    from otp_runtime.process.context import Context
    from otp_runtime.process.handle import NodeHandle
    from otp_runtime.process.shipping import ClassRef, Shipper


class NamedClasses:
    """What a durable state may hold beside data: classes by their names, also those of the main script.

    The next run defines these classes again; which of its classes has the name is asked then. Objects that are no
    data are refused: their bytes would mean nothing to a later version of the program.
    """

    def __init__(self, shipper: Shipper) -> None:
        """Look up classes among those that this process has loaded."""
        self._shipper = shipper

    def class_ref(self, cls: type) -> ClassRef:
        """Name a class, and say where this run laid it down: one that only came with a message is found there."""
        return self._shipper.class_ref(cls)

    def load_class(self, ref: ClassRef) -> type:
        """Give the class of that name."""
        found = self._shipper.find_class(ref[0], ref[1])
        if found is None and ref[2]:
            # a successor in the same run, whose own code does not name the class
            with contextlib.suppress(CodecError):
                found = self._shipper.load_class(ref)
        if found is None:
            message = (
                f"this run of the program has no class {ref[0]}.{ref[1]} when the server starts: "
                "define it before, or in a module"
            )
            raise LookupError(message)
        return found

    def dump(self, thing: Any, _apart: Any = None) -> bytes:
        """Refuse."""
        message = f"a durable state is data, and a {type(thing).__qualname__} is not"
        raise TypeError(message)

    def load(self, data: bytes, _buffers: Any = ()) -> Any:
        """Refuse."""
        message = "nothing is unpickled from a database"
        raise TypeError(message)


def codec_of(node: NodeHandle) -> Codec:
    """Give the codec of durable states."""
    return Codec(NamedClasses(node.shipper))


def open_store(context: Context, durable: str, cls: type) -> DurableStore:
    """Open a server's part of the database at `durable`, "" for the node's own.

    Raises `DurableStateError`.
    """
    node = context.node
    said = Codec().decode((node.directory.path / "node").read_bytes())["data"]
    key = context.box.name or "/" + "/".join(context.place[1:])
    class_name = f"{cls.__module__}.{cls.__qualname__}"
    return DurableStore(durable or said["path"], said["name"], key, class_name, f"{node.incarnation:x}.{context.id}")


__all__ = ["NamedClasses", "codec_of", "open_store"]
