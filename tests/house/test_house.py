"""The house: who imports whom, what may be used where, sizes, and pages that must not grow old."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from yolodet.detector.options import pages
from yolodet.detector.options.catalog import COMMANDS
from yolodet.detector.options.fields import HEADINGS, options_of

ROOT = Path(__file__).parents[2]
ROOMS = ("datasets", "detector", "files", "weights")
CODE = sorted([*ROOT.glob("*.py"), *(p for room in ROOMS for p in ROOT.glob(f"{room}/**/*.py"))])
PROGRAMS = [*CODE, *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py")]

FLOORS = (
    {"files"},
    {"datasets", "weights"},
    {"detector/options"},
    {"detector/run"},
    {"detector/models", "detector/record"},
    {"detector/quantization"},
    {"detector/losses", "detector/evaluate", "detector/report"},
    {"detector/precision"},
    {"detector/export"},
    {"detector/checkpoints"},
    {"detector/train", "detector/predict"},
    {"detector/track"},
    {"detector/examine", "detector/tune", "detector/compress", "detector/repeat"},
    {"detector/studio"},
    {"detector/commands"},
    {"detector/model.py"},
    {"detector/api.py"},
    {"cli.py", "__init__.py"},
    {"__main__.py"},
)
"""From the ground up.  A room may import rooms on floors below it, and itself."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def ids(paths: list[Path]) -> list[str]:
    return [name_of(path) for path in paths]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    """The room of FLOORS that a file belongs to."""
    parts = path.relative_to(ROOT).parts
    if parts[0] in ("files", "datasets", "weights"):
        return parts[0]
    own = {name for floor in FLOORS for name in floor}
    if name_of(path) in own:
        return name_of(path)
    return "/".join(parts[:-1][:2])


def floor_of(room: str) -> int:
    return next(index for index, floor in enumerate(FLOORS) if room in floor)


def imports_of(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for alias in node.names:
            target = file_of(base / alias.name) or file_of(base)
            assert target is not None, f"{name_of(path)}:{node.lineno}: imports what is not there"
            yield target


def file_of(module: Path) -> Path | None:
    for file in (module.with_name(module.name + ".py"), module / "__init__.py"):
        if file.is_file():
            return file
    return None


def test_imports_run_downwards() -> None:
    wrong = []
    for path in CODE:
        room = room_of(path)
        for target in imports_of(path):
            other = room_of(target)
            if floor_of(other) >= floor_of(room) and other != room:
                wrong.append(f"{name_of(path)} may not import {name_of(target)}")
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {path: set(imports_of(path)) for path in CODE}
    while free := [path for path, targets in graph.items() if not targets & graph.keys()]:
        for path in free:
            del graph[path]
    assert not graph, f"in or above a circle: {ids(sorted(graph))}"


def test_inside_the_package_imports_are_relative() -> None:
    wrong = []
    for path in CODE:
        for node in ast.walk(tree_of(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            ours = [name for name in names if name.split(".")[0] in ("yolodet", *ROOMS)]
            wrong += [f"{name_of(path)}:{node.lineno}: {name}" for name in ours]
    assert not wrong


def test_the_package_list_is_the_folders_with_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(ROOT) for path in CODE}
    expected = {".".join(("yolodet", *folder.parts)) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == expected


def test_datasets_is_no_package_of_its_own() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_the_root_folder_ships_three_files() -> None:
    assert sorted(path.name for path in ROOT.glob("*.py")) == [
        *("__init__.py", "__main__.py", "cli.py"),
    ]


def uses(path: Path, *wanted: str) -> list[int]:
    """Lines where a call or attribute is one of ``print``, ``sys.argv``, ``os.environ``..."""
    return [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in wanted
    ]


ALLOWED = {
    "print": (("print",), ("cli.py", "detector/run/log.py", "benchmarks/", "tests/")),
    "argv": (("sys.argv",), ("cli.py", "benchmarks/", "tests/")),
    "environment": (
        ("os.environ", "os.getenv", "os.putenv"),
        (
            *("files/folders.py", "files/telemetry.py", "files/threads.py"),
            "datasets/sets/locate.py",
            *("weights/shelf.py", "detector/run/rank_info.py", "detector/predict/window.py"),
            *("detector/record/environment.py", "detector/run/kernels.py"),
            *("benchmarks/", "tests/"),
        ),
    ),
}


def test_print_argv_and_the_environment_are_used_only_where_they_belong() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {what}"
        for what, (wanted, homes) in ALLOWED.items()
        for path in PROGRAMS
        if not name_of(path).startswith(homes)
        for line in uses(path, *wanted)
    ]
    assert not wrong


def test_files_and_functions_are_short_enough() -> None:
    wrong = []
    for path in PROGRAMS:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            wrong.append(f"{name_of(path)} has {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{name_of(path)}: {node.name} has {length} lines")
    assert not wrong


def test_modules_and_what_is_public_are_documented() -> None:
    bare = []
    for path in CODE:
        tree = tree_of(path)
        if tree.body and not ast.get_docstring(tree):
            bare.append(name_of(path))
        bare += [
            f"{name_of(path)}: {node.name}"
            for node in tree.body
            if is_public(node) and not ast.get_docstring(node)
        ]
    assert not bare


def is_public(node: ast.stmt) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return isinstance(node, kinds) and not node.name.startswith("_")


def test_every_option_is_documented() -> None:
    for command in COMMANDS:
        for option in options_of(command.config).values():
            assert option.doc.rstrip().endswith((".", ")")), option.name
            assert option.group in HEADINGS


def test_the_list_of_options_is_frozen() -> None:
    """A new option is a promise: write it into the list on purpose.

    python -m yolodet.cli config --options > tests/cli/cli_options.txt
    """
    frozen = (ROOT / "tests" / "cli" / "cli_options.txt").read_text()
    assert pages.option_list() == frozen


def test_the_configuration_page_is_what_is_generated() -> None:
    """python -m yolodet.cli config --markdown > docs/configuration.md"""
    assert (ROOT / "docs" / "configuration.md").read_text() == pages.as_markdown()


def test_nothing_speaks_of_one_machine() -> None:
    places = re.compile(r"(?<![\w.])/(work|root|home/(?!me/|you/)[a-z]+)/")
    texts = [p for kind in ("py", "md", "toml", "yaml", "txt") for p in ROOT.rglob(f"*.{kind}")]
    made = {".venv", "build", "dist", "runs", "yolodet.egg-info"}
    wrong = [
        name_of(path)
        for path in [*texts, ROOT / "Makefile", ROOT / ".ci" / "run"]
        if not made & set(path.relative_to(ROOT).parts)
        and path != Path(__file__)
        and places.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not wrong
