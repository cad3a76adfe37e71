"""Imports go down only, folder by folder, as the design says; read from the source, nothing is imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import slow

PACKAGE = Path(__file__).parents[1] / "ncexp"

#: From the bottom up. Folders, and files at the root, import those below theirs.
LAYERS = [
    ["collapse"],
    ["config"],
    ["record"],
    ["datasets", "architectures"],
    ["training"],
    ["measure"],
    ["report", "tracking"],
    ["main", "recorder"],
    ["integrations"],
    ["simulations"],
    ["launching"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
#: Imports between folders (and files at the root, each a room of its own); 119 between 37 rooms in the first house.
MOST_IMPORTS = 55
#: Libraries that take long to import, or that one part alone is to know.
ONLY = {
    "mlflow": {"tracking"},
    "matplotlib": {"report"},
    "hydra": {"config", "cli", "launching"},
    "submitit": {"launching", "cli"},
    "lightning": {"integrations"},
    "transformers": {"integrations"},
    "torchmetrics": {"integrations"},
}
#: What the pure mathematics may import besides itself and the standard library.
PURE = {"torch", "scipy", "numpy"}
#: Where rich's consoles are made: without markup, which names and messages from outside would be taken for.
CONSOLES = "ncexp.record.console"
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def _module(path: Path) -> str:
    """``ncexp.measure.stored``; of a package's __init__.py the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {_module(path): path for path in SOURCES}


@cache
def _imports(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere in it, also within functions; of ours the files, by their modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            # from package import module: the module is meant, not the package's face.
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(one if one in FILES else str(node.module) for one in named)
    return frozenset(names)


def _room(module: str) -> str:
    """The folder, or the file at the root, that a module of ours is in; "" for the face of the whole."""
    return [*module.split("."), ""][1]


def _ours(path: Path) -> set[str]:
    """The modules of this package that a file imports, without itself."""
    return {name for name in _imports(path) if name.split(".")[0] == "ncexp"} - {_module(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = _room(_module(path))
    assert room in LEVEL, f"{room} has no layer: say in LAYERS where it stands"
    for name in _ours(path):
        below = _room(name) == room or LEVEL.get(_room(name), -1) < LEVEL[room]
        assert below, f"{_module(path)} imports {name}, which does not stand below it"


def test_files_import_each_other_in_no_circle() -> None:
    """A package's face imports its files, so within a package a file imports files, not the face."""
    graph = {module: _ours(path) & FILES.keys() for module, path in FILES.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle of imports: {' → '.join([*way[way.index(module) :], module])}"
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_imports_between_folders_are_few() -> None:
    found = {(_room(_module(path)), _room(name)) for path in SOURCES for name in _ours(path)}
    between = {(above, below) for above, below in found if above != below and below}
    assert len(between) <= MOST_IMPORTS, sorted(between)


def test_root_holds_at_most_five_files() -> None:
    files = [path.name for path in PACKAGE.iterdir() if path.is_file() and not path.name.startswith(".")]
    assert len(files) <= 5, files


def test_every_layer_is_there() -> None:
    assert {_room(module) for module in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_have_one_door(path: Path) -> None:
    room = _room(_module(path))
    for name in _imports(path):
        library = name.split(".")[0]
        assert room in ONLY.get(library, {room}), f"{path.name} imports {library}"


#: Of the face; of the package's own ways to train and to record.
FACE = "import ncexp; ncexp.__version__; dir(ncexp)"
ALL_BUT_INTEGRATIONS = "import ncexp.main, ncexp.cli, ncexp.launching, ncexp.simulations; ncexp.Recorder, ncexp.load"
#: A training to its end, figures included, without tracking; what it prints is left out.
RUN = (
    "import contextlib, io, ncexp.cli\nwith contextlib.redirect_stdout(io.StringIO()):\n    ncexp.cli.main("
    "['dataset=gaussian_mixture', 'architecture=mlp', 'epochs=1', 'tracking.enabled=false'])"
)


@pytest.mark.slow
@pytest.mark.cold
@pytest.mark.parametrize(
    ("code", "libraries"),
    [
        (FACE, ["torch", "mlflow", "hydra", "torchvision", "pandas", "lightning", "transformers", "torchmetrics"]),
        slow("import torch, ncexp.collapse", ["scipy", "mlflow", "hydra", "torchvision", "pandas", "pydantic", "rich"]),
        slow(ALL_BUT_INTEGRATIONS, ["lightning", "pytorch_lightning", "transformers", "torchmetrics", "accelerate"]),
        slow(RUN, ["torch._dynamo", "sympy", "scipy.stats", "pandas", "mlflow", "torchvision", "sklearn", "plotly"]),
    ],
    ids=["face", "collapse", "package", "run"],
)
def test_libraries_that_nobody_asked_for_are_not_imported(code: str, libraries: list[str], tmp_path: Path) -> None:
    """In a process of its own; a library that is not installed counts as tried if somebody looks for it."""
    watch = (
        "import sys, importlib.abc\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        seen.add(name)\n"
        "seen = set()\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    script = f"{watch}{code}\nprint(*({{*sys.modules, *seen}} & {set(libraries)}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "collapse").glob("*.py")), ids=lambda path: path.name)
def test_collapse_is_pure(path: Path) -> None:
    for name in _imports(path):
        library = name.split(".")[0]
        allowed = library in PURE or library in sys.stdlib_module_names or name.startswith("ncexp.collapse")
        assert allowed, f"collapse/{path.name} imports {name}"


def test_consoles_are_made_in_one_place() -> None:
    made = {name for name, path in FILES.items() if re.search(r"Console\(", path.read_text())}
    assert made == {CONSOLES}


def test_no_folder_of_the_tests_stands_for_a_package() -> None:
    """As tests/datasets once did for the library `datasets`, which transformers then took for installed."""
    tests = Path(__file__).parent
    folders = {path.name for path in tests.iterdir() if path.is_dir() and path.name.isidentifier()} - {"__pycache__"}
    for folder in folders:
        found = find_spec(folder)
        places = (found.submodule_search_locations or []) if found else []
        assert not [place for place in places if Path(place).is_relative_to(tests)]
