"""Pages say what is there: commands parse, links lead somewhere, tables are those of the code."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from rows import each
from yolodet.detector.api import YOLO
from yolodet.detector.evaluate.measured import MeasuredResults
from yolodet.detector.options.argv import read_words
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.fields import options_of
from yolodet.detector.options.parse import parse
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.options.shared import FlagsConfig
from yolodet.detector.options.track import TrackConfig
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.options.val import ValConfig
from yolodet.detector.predict.boxes import Boxes
from yolodet.detector.predict.results import Results
from yolodet.detector.train import lengths
from yolodet.detector.train.resume import MAY_CHANGE
from yolodet.weights.checkpoint import Meta, save_weights

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CALLS = {"train": TrainConfig, "val": ValConfig, "predict": PredictConfig, "stream": PredictConfig,
         "track": TrackConfig}  # fmt: skip

CALLS_OF_SOURCES = ("predict", "stream", "track")


class Code(NamedTuple):
    """Something on a page that claims to work."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text}"


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for name, text in FENCE.findall(page.read_text()) if name in languages]


def spans(page: Path) -> list[str]:
    """Code inside lines."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def command_lines(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "", "sh", "bash", "console")).split("\n")
    return [line.strip().removeprefix("$ ") for line in [*lines, *spans(page)]]


DET = [Code(p, line) for p in PAGES for line in command_lines(p) if line.startswith("det ")]
PYTHON = [Code(page, text) for page in PAGES for text in blocks(page, "python")]


def check_command(line: str) -> None:
    """Raise UsageError for a command that det does not understand; nothing is run or looked up."""
    tokens = shlex.split(line, comments=True)
    end = next((i for i, token in enumerate(tokens) if token in (">", ">>", "|", "&&")), None)
    call = read_words(tokens[1:end])
    command = call.command
    if command is None:
        return
    words = {name: word for name, word in call.words.items() if name != "cfg"}
    flags = {name: words.pop(name) for name in options_of(FlagsConfig) if name in words}
    parse(FlagsConfig, flags)
    parse(command.config, words)


def test_commands_are_found_on_the_pages() -> None:
    assert len(DET) > 30 and len(PYTHON) > 2


@each("code", DET)
def test_every_command_parses(code: Code) -> None:
    check_command(code.text)


@pytest.mark.parametrize("line", ["det trian", "det train epoch=3", "det train epochs=x | head"])
def test_a_wrong_command_on_a_page_would_be_found(line: str) -> None:
    with pytest.raises(UsageError):
        check_command(line)


@each("code", PYTHON)
def test_python_uses_names_and_options_that_exist(code: Code) -> None:
    for node in ast.walk(ast.parse(code.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yolodet"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in CALLS and hasattr(YOLO, name):
                words = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
                own = {"rgb", "stream", "persist"} if name in CALLS_OF_SOURCES else set()
                parse(CALLS[name], {n: v for n, v in words.items() if n not in own})


@each("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def headings(page: Path) -> set[str]:
    """Headings as they are linked to."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_make_targets_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for line in command_lines(page):
            if line.startswith("make "):
                assert line.split()[1] in known, f"{page.name}: {line}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_are_named_exist(name: str) -> None:
    there = [path.as_posix() for path in ROOT.rglob("*.py")]
    for file in re.findall(r"(?<![\w*])\w[\w/]*\.py\b", (ROOT / name).read_text()):
        assert any(path.endswith(f"/{file}") for path in there), file


def table(page: str, first: str) -> list[list[str]]:
    """Rows of the table whose head begins with ``first``."""
    text = (DOCS / page).read_text().split(f"| {first} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.split("\n")[2:]]


def names(rows: list[list[str]]) -> set[str]:
    """What is set as code in the first column, brackets off."""
    return {word.removesuffix("()") for row in rows for word in re.findall(r"`([^`]+)`", row[0])}


def test_the_table_of_schedules_is_what_det_config_shows() -> None:
    rows = table("training.md", "run")
    assert rows == [list(run.values()) for run in lengths.examples()]
    head = re.search(r"^\| (run \| .*) \|$", (DOCS / "training.md").read_text(), re.MULTILINE)
    assert head and head[1].split(" | ") == list(lengths.examples()[0])


def test_the_tables_of_findings_are_complete() -> None:
    kinds = "annotation|box|class|file|folder|id|image|label|list|number|path|size|split|xml"
    word = re.compile(rf"({kinds})-[a-z-]+")
    ids = {
        node.value
        for path in ROOT.glob("datasets/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and word.fullmatch(str(node.value))
    }
    rows = [*re.finditer(r"^\| `([a-z-]+)` \| (\w+) \|", (DOCS / "data.md").read_text(), re.M)]
    assert {row[1] for row in rows} == ids
    assert {row[2] for row in rows} == {"error", "warning", "info"}


def test_the_docs_give_the_size_of_the_drawn_data_set() -> None:
    drawn = yaml.safe_load((ROOT / "datasets" / "sets" / "shapes.yaml").read_text())["shapes"]
    told = f"{drawn['train']} images to train, {drawn['val']} to validate"
    assert told in (DOCS / "data.md").read_text()


def test_the_docs_name_every_environment_variable() -> None:
    readers = ("files/folders.py", "datasets/sets/locate.py")
    code = "".join((ROOT / file).read_text() for file in readers)
    told = (DOCS / "data.md").read_text()
    variables = re.findall(r'os\.environ\.get\("(\w+)"', code)
    assert len(variables) == 3 and all(f"`{name}`" in told for name in variables)


def test_the_table_of_the_checkpoint_header_is_complete() -> None:
    assert names(table("checkpoint.md", "field")) == {field.name for field in fields(Meta)}


def test_the_parts_of_last_pt_are_all_named() -> None:
    tree = ast.parse((ROOT / "detector" / "train" / "trainer.py").read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    state = next(node for node in functions if node.name == "state_dict")
    parts = next(node for node in ast.walk(state) if isinstance(node, ast.Dict)).keys
    section = (DOCS / "checkpoint.md").read_text().split("## last.pt")[1].split("## ")[0]
    assert len(parts) > 5
    for key in parts:
        assert key is not None and f"`{ast.literal_eval(key)}`" in section


def test_the_header_is_read_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = blocks(DOCS / "checkpoint.md", "python")[0]
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import)]
    assert [alias.name for node in imports for alias in node.names] == ["json"]
    meta = Meta("yolo26n", ("cat", "dog"), 64, (8, 16, 32), "bf16", metrics={"map": 0.5})
    file = tmp_path / "runs" / "train" / "weights" / "best.safetensors"
    save_weights(file, {"weight": torch.zeros(2)}, meta)
    monkeypatch.chdir(tmp_path)
    exec(code, {"json": json})
    assert capsys.readouterr().out == "yolo26n ['cat', 'dog'] {'map': 0.5}\n"


def test_files_of_a_run_folder_are_written_somewhere() -> None:
    code = "".join(path.read_text() for path in ROOT.glob("detector/**/*.py"))
    files = names(table("training.md", "file"))
    assert len(files) > 12 and all(f'{Path(name).name}"' in code for name in files)


def test_the_options_that_a_resume_takes_are_listed() -> None:
    text = (DOCS / "training.md").read_text()
    listed = text.split("what the past steps meant: ")[1].split(". Any other")[0]
    assert set(re.findall(r"\w+", listed)) - {"and"} == MAY_CHANGE - {"resume"}


def attributes(page: str, first: str) -> set[str]:
    """Names in the first column of a table, without their arguments."""
    return {name.partition("(")[0] for name in names(table(page, first))}


def test_the_docs_name_attributes_of_results_and_boxes_that_exist() -> None:
    results = attributes("prediction.md", "of `result`")
    assert results <= {*dir(Results), "names", "speed"} and len(results) > 15
    boxes = attributes("prediction.md", "of `result.boxes`") - {"len"}
    assert boxes <= {*dir(Boxes), "data"} and len(boxes) > 10
    model = attributes("prediction.md", "of `model`")
    assert model <= {*dir(YOLO), "task"} and len(model) > 12
    metrics = attributes("prediction.md", "of `metrics`")
    assert metrics <= {*dir(MeasuredResults)} and len(metrics) > 8


def test_the_license_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    assert len(text.split()) == 1581
