"""Imports go one way, as the table in CONTRIBUTING.md says: from a room only to those it names."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "shine_exp"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
READ_BY_FIGURES = {
    f"shine_exp.runs.{name}" for name in ("run", "state", "telling", "command_line", "signals")
}


def imports(module: str, at_import: bool = False) -> Iterator[str]:
    """The modules of ours that a module imports; `at_import`: as soon as it is imported itself."""
    tree = ast.parse(MODULES[module].read_text())
    for node in _at_import(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                yield within if within in MODULES else node.module


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Without the bodies of functions, and of what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        if not lazy:
            yield child
            yield from _at_import(child)


def room(module: str) -> str:
    """solvers of shine_exp.solvers.broyden; of the package itself, ""."""
    return [*module.split("."), ""][1]


def allowed() -> dict[str, set[str]]:
    """What each room may import, by the table in CONTRIBUTING.md, itself included."""
    table = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \|[^|]+\| ([^|]+) \|$", table, re.MULTILINE)
    rooms: dict[str, set[str]] = {}
    for names, targets in rows:
        for name in _names(names):
            rooms[name] = {name, *_names(targets)}
    return rooms


def _names(cell: str) -> list[str]:
    return [name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", cell)]


def test_table_of_rooms_names_every_room() -> None:
    assert set(allowed()) == {room(module) for module in MODULES} - {""}


def test_table_of_rooms_has_no_circle() -> None:
    graph = {name: targets - {name} for name, targets in allowed().items()}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES} - {""}))
def test_room_imports_only_what_the_table_allows(name: str) -> None:
    may = allowed()[name]
    wrong = [
        f"{module} imports {target}"
        for module in MODULES
        if room(module) == name
        for target in imports(module)
        if room(target) not in may and target != "shine_exp"  # for __version__
    ]
    assert wrong == []


def test_figures_read_runs_and_make_none() -> None:
    read = {t for m in MODULES if room(m) == "figures" for t in imports(m) if room(t) == "runs"}
    assert read == READ_BY_FIGURES


def test_equilibrium_layer_and_training_know_no_images() -> None:
    images = "shine_exp.training.images"
    wrong = [
        f"{module} imports {target}"
        for module in MODULES
        if room(module) in ("deq", "training") and not module.startswith(images)
        for target in imports(module)
        if target.startswith(images) or room(target) == "data"
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: set(imports(module, at_import=True)) - {module} for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" imports ".join(circle.args[1]))
