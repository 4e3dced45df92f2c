"""Where a node's durable states lie: decided once, by the program that starts the node.

The directory is `$XDG_DATA_HOME/otp_runtime`, else `~/.local/share/otp_runtime`; the database has the node's name. An
unnamed node's name changes with every run, so its database is named after the program instead: the main script's name
and a digest of its path, or of the working directory where there is no script.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from otp_runtime.core.names import file_name_of

UNNAMED = "nonode"


def directory() -> Path:
    """Give the directory of the databases."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "otp_runtime"


def data_of(name: str | None) -> dict[str, str]:
    """Give the path of a node's database, and the name under which its states are kept; None: an unnamed node's."""
    file_name = file_name_of(_program() if name is None else name)
    return {"path": str(directory() / f"{file_name}.db"), "name": UNNAMED if name is None else name}


def _program() -> str:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    where = os.path.abspath(script or os.getcwd())
    stem = Path(where).stem if script else f"python-{Path(where).name}"
    digest = hashlib.sha256(os.fsencode(where)).hexdigest()[:8]
    return f"{stem.encode(errors='replace')[:80].decode(errors='replace')}-{digest}"
