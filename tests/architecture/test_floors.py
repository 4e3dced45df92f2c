"""Folders are floors: imports point down only. Read from the source with `ast`, nothing is run.

A *room* is a folder or file directly under the package. Three rules: a room imports only what is on
a floor below it (or itself); no two modules import each other in a circle; some rooms may not touch
parts of the standard library, because they hold decisions and not effects.

How an import counts:

    at module level       direction, circles, standard library
    inside a function     direction, standard library    (it runs late, so it closes no circle)
    under TYPE_CHECKING   direction                      (it never runs)
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import otp_runtime

PACKAGE = Path(otp_runtime.__file__).parent

FLOORS = (
    {"errors", "telemetry", "terms"},
    {"core", "host"},
    {"process"},
    {"behaviours"},
    {"supervision"},
    {"registry", "application"},
    {
        "system",
        "timer",
        "statem",
        "typed",
        "erpc",
        "pg",
        "pubsub",
        "presence",
    },  # doors: files that re-export what lies below
    {"observe", "cluster", "testing", "cli"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TOP = len(FLOORS) - 1

# Beyond the floors: room -> rooms that are below it and still not its business.
NOT_ITS_BUSINESS = {"core": {"telemetry"}, "terms": {"telemetry"}}

# The root and `python -m` belong to no floor: they name what others made.
EXEMPT = {"__init__", "__main__"}

FORBIDDEN_MODULES = {
    "core": {
        "asyncio",
        "os",
        "random",
        "select",
        "selectors",
        "signal",
        "socket",
        "subprocess",
        "threading",
        "time",
    },
    "terms": {"os", "select", "selectors", "socket", "time"},
}

# (module, module) pairs that may point up from inside a function. Keep it empty: low floors report
# up through telemetry, or are handed a function.
UPWARD_IN_FUNCTIONS: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Import:
    """Module `source` names module `target` in `line`."""

    source: str
    target: str
    line: int
    in_function: bool
    for_types: bool


class TestFloors:
    def test_imports_point_down_only(self):
        """No room imports one beside or above it."""
        assert [] == upward_imports(PACKAGE)

    def test_no_circles(self):
        """Modules can be put into an order in which each imports only earlier ones."""
        assert [] == circle(PACKAGE)

    def test_decisions_touch_no_effects(self):
        """`core` has no clock, descriptor, thread or chance; `terms` no descriptor and no clock."""
        assert [] == forbidden_imports(PACKAGE)

    def test_every_room_has_a_floor(self):
        """A new folder or file is put on a floor here before anything imports it."""
        rooms = {room_of(module, PACKAGE.name) for module in modules(PACKAGE)}

        assert set() == rooms - FLOOR_OF.keys() - EXEMPT


class TestRoot:
    def test_all_is_sorted(self):
        """A name has one place."""
        assert sorted(otp_runtime.__all__) == otp_runtime.__all__

    def test_all_is_what_can_be_resolved(self):
        """Neither a promised name without a home nor a home nobody is told of."""
        lazy = otp_runtime._HOMES.keys() | otp_runtime._SUBMODULES

        assert lazy == set(otp_runtime.__all__)
        assert otp_runtime.__all__ == dir(otp_runtime)

    def test_checkers_see_the_same_names(self):
        """The imports under TYPE_CHECKING take each name from the home that the table gives."""
        told = {
            (alias.name, node.module)
            for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
            if isinstance(node, ast.ImportFrom) and node.level == 1
            for alias in node.names
        }

        assert told == {*otp_runtime._HOMES.items(), *((n, None) for n in otp_runtime._SUBMODULES)}

    @pytest.mark.parametrize("name", otp_runtime.__all__)
    def test_name_resolves(self, name):
        """Every public name is there when asked for."""
        assert hasattr(otp_runtime, name)

    def test_unknown_name_is_an_attribute_error(self):
        """A misspelt name says which module lacks it."""
        with pytest.raises(AttributeError, match="'otp_runtime' has no attribute 'GenSever'"):
            importlib.import_module("otp_runtime").GenSever  # noqa: B018  the access is the test


class TestTheChecker:
    """Fed small trees that break one rule each: a checker that finds nothing proves nothing."""

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("core.rules", "from pkg.process import node"),
            ("core.rules", "import pkg.process.node"),
            ("core.rules", "from ..process.node import start"),
            ("core.rules", "from .. import process"),
            ("core.rules", "from pkg.host import pipe"),
            ("host.pipe", "from pkg.core import rules"),
            ("core.rules", "from pkg.telemetry import emit"),
            ("core.rules", "def late():\n    from pkg.process import node"),
            ("core.rules", "import importlib\nimportlib.import_module('pkg.process.node')"),
            (
                "core.rules",
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.process",
            ),
            ("core.rules", "from pkg import GenServer"),
            ("core.rules", "import pkg"),
            ("errors", "from pkg.terms import pid"),
            ("registry.registry", "import pkg.application"),
            ("process.node", "import pkg.testing"),
        ],
    )
    def test_catches_an_upward_import(self, tmp_path, module, source):
        """In every form that Python has for it."""
        tree = plant(tmp_path, {module: source})

        assert [module] == [each.source for each in upward_imports(tree)]

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("process.node", "import pkg.core.rules, pkg.host.pipe"),
            ("terms.pid", "from pkg.errors import CodecError"),
            ("errors", "import typing\nif typing.TYPE_CHECKING:\n    from pkg.terms import pid"),
            ("cli.main", "import pkg.observe\nfrom pkg import GenServer"),
            ("typed", "from pkg.behaviours import gen_server"),
            ("__main__", "from pkg.cli import main"),
        ],
    )
    def test_allows_what_points_down(self, tmp_path, module, source):
        """Top rooms may import each other; the ground may name its own types."""
        assert [] == upward_imports(plant(tmp_path, {module: source}))

    def test_catches_a_circle(self, tmp_path):
        """Also one that closes through a third module."""
        tree = plant(
            tmp_path,
            {
                "core.names": "from pkg.core import rules",
                "core.rules": "from .signals import step",
                "core.signals": "import pkg.core.names",
            },
        )

        assert {"core.names", "core.rules", "core.signals"} == set(circle(tree))

    def test_no_circle_through_functions_or_types(self, tmp_path):
        """A late import and one for types close no circle."""
        late = "def late():\n    from pkg.core import rules"
        typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.core.rules"
        tree = plant(
            tmp_path,
            {"core.a": late, "core.b": typed, "core.rules": "from pkg.core import a, b"},
        )

        assert [] == circle(tree)

    @pytest.mark.parametrize(
        "source",
        [
            "import time",
            "import os.path",
            "from time import monotonic",
            "def late():\n    import socket",
        ],
    )
    def test_catches_a_forbidden_module(self, tmp_path, source):
        """At module level and inside functions."""
        tree = plant(tmp_path, {"core.rules": source})

        assert ["core.rules"] == [each.source for each in forbidden_imports(tree)]

    def test_effects_are_allowed_their_modules(self, tmp_path):
        """`host` is where they belong."""
        assert [] == forbidden_imports(plant(tmp_path, {"host.pipe": "import os, select, time"}))


def upward_imports(package: Path) -> list[Import]:
    """The imports inside `package` that do not point down."""
    return [
        each
        for each in internal_imports(package)
        if not is_downward(each) and not (each.in_function and (each.source, each.target) in UPWARD_IN_FUNCTIONS)
    ]


def is_downward(each: Import) -> bool:
    """Whether a room may import another: the table above, read aloud."""
    source, target = each.source.split(".")[0], each.target.split(".")[0]
    if source in EXEMPT or source == target:
        return True
    if target in NOT_ITS_BUSINESS.get(source, ()):
        return False
    here = FLOOR_OF.get(source, -1)  # an unknown room may import nothing
    if target in EXEMPT:  # the root hides where a name comes from, so only the top may use it
        return here == TOP
    there = FLOOR_OF.get(target, TOP)
    if here != there:
        return there < here
    if here == 0:  # terms rest on errors; errors may name terms' types
        return target == "errors" or each.for_types
    return here == TOP


def circle(package: Path) -> list[str]:
    """Modules that import each other in a circle when they are loaded, or nothing."""
    graph: dict[str, set[str]] = {}
    for each in internal_imports(package):
        if not each.in_function and not each.for_types and each.source != each.target:
            graph.setdefault(each.source, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def forbidden_imports(package: Path) -> list[Import]:
    """The imports of standard modules that a room must do without."""
    return [
        each
        for each in imports(package)
        if not each.for_types and each.target.split(".")[0] in FORBIDDEN_MODULES.get(each.source.split(".")[0], ())
    ]


def internal_imports(package: Path) -> Iterator[Import]:
    """Imports of the package's own modules, the target named without the package's name.

    `from pkg.core import rules` names the module `core.rules` if there is one, else `core`.
    """
    known = set(modules(package))
    root = f"{package.name}."
    for each in imports(package):
        if not f"{each.target}.".startswith(root):
            continue
        target = each.target.removeprefix(package.name).removeprefix(".")
        if target not in known and target.rpartition(".")[0] in known:
            target = target.rpartition(".")[0]
        yield Import(each.source, target or "__init__", each.line, each.in_function, each.for_types)


def imports(package: Path) -> Iterator[Import]:
    """Every import in `package`; `from a import b` has the target `a.b`."""
    for module, path in modules(package).items():
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        parent = [package.name, *module.split(".")]
        if path.name != "__init__.py" or module == "__init__":
            parent.pop()
        for node, in_function, for_types in import_nodes(tree, in_function=False, for_types=False):
            for target in targets(node, parent):
                yield Import(module, target, node.lineno, in_function, for_types)


def import_nodes(
    node: ast.AST, *, in_function: bool, for_types: bool
) -> Iterator[tuple[ast.stmt | ast.Call, bool, bool]]:
    """The nodes that import, each with where it stands."""
    for child in ast.iter_child_nodes(node):
        late = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typed = for_types
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # `if not TYPE_CHECKING` turns it round, and so does `else`
            negated = isinstance(node.test, ast.UnaryOp)
            typed = for_types or (child in node.orelse if negated else child in node.body)
        if isinstance(child, ast.Import | ast.ImportFrom | ast.Call):
            yield child, late, typed
        yield from import_nodes(child, in_function=late, for_types=typed)


def targets(node: ast.stmt | ast.Call, parent: list[str]) -> list[str]:
    """The absolute names that an import asks for; `parent` is the package it stands in."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            base = parent[: len(parent) - level + 1] if level else []
            stem = ".".join([*base, *([module] if module else [])])
            return [f"{stem}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
        case _:
            return []


def modules(package: Path) -> dict[str, Path]:
    """Name without the package's name -> file; a folder's `__init__` goes by the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def room_of(module: str, package: str) -> str:
    return module.removeprefix(f"{package}.").split(".")[0]


def plant(folder: Path, sources: dict[str, str]) -> Path:
    """A package `pkg` in `folder` with an empty module in every room, and `sources` put in."""
    package = folder / "pkg"
    files = {"__init__": "", "errors": "", "telemetry": "", "typed": "", "terms.pid": ""}
    files |= {"core.rules": "", "host.pipe": "", "process.node": "", "behaviours.gen_server": ""}
    files |= {f"{room}.__init__": "" for room in FLOOR_OF if room not in files}
    for module, source in (files | sources).items():
        path = package.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return package
