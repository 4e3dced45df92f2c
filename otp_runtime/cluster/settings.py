"""How a node joins a cluster: what `Node.start` was given, checked before anything starts."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from otp_runtime.errors import NoNode
from otp_runtime.process.function_names import names_of

DEFAULT_CLUSTER: Final = "otp"
DEFAULT_LEASE: Final = 5.0
EXTRA: Final = "pip install 'otp-runtime[cluster]'"
TLS_FIELDS: Final = ("ca", "cert", "key")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEMES = ("nats", "tls")


@dataclass(frozen=True, slots=True)
class Settings:
    """Which cluster, where it is, who this node is there.

    `servers` is empty for the embedded engine, whose file says where it is. `user` and `password`, or `credentials`, a
    file; `tls` is the paths of `ca`, `cert` and `key`. `erpc` is the names of what other nodes may run here.
    """

    cluster: str
    servers: tuple[str, ...]
    lease: float
    user: str = ""
    password: str = ""
    credentials: str = ""
    tls: tuple[str, str, str] | None = None
    erpc: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the engine is one that the nodes of this machine start."""
        return not self.servers


def check(node: str, cluster: Any, lease: Any, tls: Any, credentials: Any, erpc: Any = ()) -> Settings:
    """Check what `Node.start` was given. Raises TypeError or ValueError, and `NoNode` without the extra."""
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease < math.inf:
        msg = f"lease is seconds, a number >= 1, not {lease!r}: a node that is not heard for so long is lost"
        raise ValueError(msg)
    name, servers, user, password = _read_cluster(cluster)
    if isinstance(credentials, tuple | list) and len(credentials) == 2 and all(isinstance(w, str) for w in credentials):
        user, password = credentials
        credentials = None
    if credentials is not None and not isinstance(credentials, str | os.PathLike):
        msg = (
            "credentials is (user, password), both texts, or the path of a NATS credentials file, "
            f"not {type(credentials).__name__}"
        )
        raise TypeError(msg)
    if not servers and (tls is not None or credentials is not None or user):
        msg = (
            "the embedded engine has its own credentials, and never leaves this machine: give tls and credentials "
            "with an address, cluster='nats://…'"
        )
        raise ValueError(msg)
    settings = Settings(
        cluster=name,
        servers=servers,
        lease=float(lease),
        user=user,
        password=password,
        credentials="" if credentials is None else _readable("credentials", credentials),
        tls=_read_tls(tls),
        erpc=names_of(erpc),
    )
    found = importlib.util.find_spec("nats")
    # a directory of that name somewhere on the path, without code, is not it
    if found is None or found.origin is None:
        raise NoNode(node, f"a cluster needs the extra that brings its engine: {EXTRA}")
    return settings


def _read_cluster(cluster: Any) -> tuple[str, tuple[str, ...], str, str]:
    if not isinstance(cluster, str):
        msg = f"cluster is None, 'embedded', 'embedded:NAME' or 'nats://host:port[/NAME]', not {cluster!r}"
        raise TypeError(msg)
    if cluster == "embedded" or cluster.startswith("embedded:"):
        return _checked(cluster, cluster.partition(":")[2] or DEFAULT_CLUSTER), (), "", ""
    names, servers, user, password = set(), [], "", ""
    for one in cluster.split(","):
        parts = _split(one.strip())
        if parts is None or parts.scheme not in _SCHEMES or not parts.hostname:
            msg = f"cluster is None, 'embedded', 'embedded:NAME' or 'nats://host:port[/NAME]', not {cluster!r}"
            raise ValueError(msg)
        names.add(_checked(cluster, parts.path.strip("/") or DEFAULT_CLUSTER))
        user, password = unquote(parts.username or "") or user, unquote(parts.password or "") or password
        where = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        servers.append(urlunsplit((parts.scheme, f"{where}:{parts.port or 4222}", "", "", "")))
    if len(names) > 1:
        msg = f"the addresses of a cluster name one cluster, not {sorted(names)}: {cluster!r}"
        raise ValueError(msg)
    return names.pop(), tuple(servers), user, password


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        return None if parts.port == 0 else parts
    except ValueError:
        return None  # a port, or an address in brackets, that is none


def _checked(cluster: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        msg = f"the name of a cluster is 1 to 64 letters, digits, _ and -, not {name!r} (in {cluster!r})"
        raise ValueError(msg)
    return name


def _read_tls(tls: Any) -> tuple[str, str, str] | None:
    if tls is None:
        return None
    if not isinstance(tls, dict) or not tls or not set(tls) <= set(TLS_FIELDS):
        msg = f"tls is a dict of paths with the keys {', '.join(TLS_FIELDS)}, not {tls!r}"
        raise TypeError(msg)
    if ("cert" in tls) != ("key" in tls):
        msg = "tls: cert and key go together"
        raise ValueError(msg)
    ca, cert, key = (_readable(f"tls[{name!r}]", tls[name]) if name in tls else "" for name in TLS_FIELDS)
    try:
        tls_context(ca, cert, key)
    except (OSError, ValueError) as error:
        msg = f"tls: {tls!r} are not the files of certificates, or the key is not the certificate's: {error}"
        raise ValueError(msg) from error
    return ca, cert, key


def tls_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Give what TLS is spoken with: whom to trust (`ca`; empty: as the machine does), and who this node is."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca or None)
    if cert:
        context.load_cert_chain(cert, key)
    return context


def _readable(what: str, path: Any) -> str:
    full: str = os.path.abspath(os.fspath(path))
    if not os.access(full, os.R_OK):
        msg = f"{what}: {full} cannot be read"
        raise ValueError(msg)
    return full
