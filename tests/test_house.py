"""The rules of the code base, measured on its syntax trees."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "poisonjax"
HEADLESS = {"What", "How", "Whether", "Who", "Whom", "Whose", "If", "Of", "That", "Where", "When", "Which"}

# Each may import itself and those in earlier lines; those of one line do not import each other. Entrances, files called
# __main__, come last, wherever they are.
ORDER = (
    ("types", "spelling", "scales"),
    ("keys", "runtime"),
    ("attacks", "models", "data"),
    ("poisons",),
    ("training",),
    ("evaluation",),
    ("defences",),
    ("overrides",),
    ("experiment",),
    ("reports",),
    ("analyses",),
    ("runs",),
    ("adapters",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FAMILIES = {
    "Attack",
    "Ball",
    "Loss",
    "Poison",
    "Trigger",
    "Subset",
    "Origin",
    "Objective",
    "Optimizer",
    "Schedule",
    "Network",
    "Defence",
    "Analysis",
}


@functools.cache
def sources() -> dict[str, ast.Module]:
    """{path in the package: its syntax tree}."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in files}


def room(path: str) -> str:
    """The folder or loose module at the top of the package that a file belongs to; "__main__" for an entrance."""
    return "__main__" if path.endswith("__main__.py") else path.split("/")[0].removesuffix(".py")


def module(path: str) -> str:
    """The dotted name of a file, without `poisonjax.`; that of a folder for its `__init__`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def nodes(kind) -> Iterator[tuple[str, ast.AST]]:
    """(path, node) for all nodes of a kind."""
    for path, tree in sources().items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kind))


def test_at_most_eight_loose_modules_stand_at_the_top():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= 8, sorted(loose)


def test_no_module_is_called_utils():
    assert not [path for path in sources() if path.endswith("utils.py")]


def test_runner_fits_on_two_hundred_lines():
    assert len((PACKAGE / "runs" / "runner.py").read_text().splitlines()) <= 200


def test_no_function_is_longer_than_forty_lines():
    functions = nodes(ast.FunctionDef | ast.AsyncFunctionDef)
    lengths = {f"{path}:{node.name}": node.end_lineno - node.lineno + 1 for path, node in functions}
    assert not {name: length for name, length in lengths.items() if length > 40}


def test_docstrings_open_with_a_noun_phrase_or_an_imperative():
    documented = nodes(ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    firsts = [(path, text.split("\n")[0]) for path, node in documented if (text := ast.get_docstring(node))]
    headless = [f"{path}: {line}" for path, line in firsts if line.split()[0].strip(",.:;") in HEADLESS]
    assert len(headless) <= 0.02 * len(firsts), "\n".join([f"{len(headless)} of {len(firsts)}", *headless])


def imported(path: str, tree: ast.Module, everywhere: bool) -> Iterator[tuple[str, int]]:
    """(module of this package that a file imports, line). everywhere: inside functions too."""
    modules = {module(other) for other in sources()}
    for node in ast.walk(tree) if everywhere else _outside_functions(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "poisonjax":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "poisonjax"]
        for name in names:
            inner = name.partition(".")[2]
            yield inner if inner in modules else inner.rpartition(".")[0] or "__init__", node.lineno


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _outside_functions(child)


def test_every_room_has_its_place_in_the_order():
    assert not {room(path) for path in sources()} - LEVEL.keys()


def test_imports_point_one_way():
    against = []
    for path, tree in sources().items():
        for name, line in imported(path, tree, everywhere=path != "__init__.py"):
            here, there = room(path), name.split(".")[0]
            if here != there and LEVEL.get(there, 99) >= LEVEL.get(here, -1):
                against.append(f"{path}:{line} imports {name}")
    assert not against, "\n".join(against)


def test_no_modules_import_each_other_in_a_circle():
    graph = {module(path): {name for name, _ in imported(path, tree, False)} for path, tree in sources().items()}
    # The `__init__` of a folder re-exports its files, which may import each other by their own names.
    graph = {name: targets - {name} for name, targets in graph.items()}
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    assert not graph, sorted(graph)


def bases(node: ast.ClassDef) -> set[str]:
    """The names of the classes that a class derives from, without modules."""
    return {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}


@functools.cache
def members() -> dict[str, str]:
    """{concrete member of a family: the folder or module at the top that defines it}, found by the names of bases."""
    classes = [(path, node) for path, node in nodes(ast.ClassDef)]
    derived = set(FAMILIES)
    while new := {node.name for _, node in classes if bases(node) & derived} - derived:
        derived |= new
    return {node.name: room(path) for path, node in classes if node.name in derived - FAMILIES}


def classes_of(node: ast.Call) -> Iterator[str]:
    """The names in the second argument of an isinstance."""
    for inner in ast.walk(node.args[1]):
        if isinstance(inner, ast.Name | ast.Attribute):
            yield inner.id if isinstance(inner, ast.Name) else inner.attr


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_family_has_a_base_class(family):
    assert any(node.name == family for _, node in nodes(ast.ClassDef)), f"no class {family}"


def test_no_isinstance_on_a_member_outside_of_its_folder():
    found = []
    for path, node in nodes(ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance" and len(node.args) == 2:
            others = [name for name in classes_of(node) if members().get(name, room(path)) != room(path)]
            found += [f"{path}:{node.lineno} isinstance of {name}" for name in others]
    assert not found, "\n".join(found)


def test_members_of_families_are_found():
    assert {"ResNet18", "AdversarialTraining", "TRADES", "BadNets"} <= members().keys()
