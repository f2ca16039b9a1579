"""report.html: what it says of a run, that foreign text stays text, and that it stands alone."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import train, use_tiny_detector, val, write_squares
from yolodet.cli import main
from yolodet.detector.report import page
from yolodet.detector.report.contents import NoRun, confused
from yolodet.detector.report.page import write_report

pytestmark = pytest.mark.usefixtures("tiny_models")

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = '<img src=x onerror="a()">\'\n\x1b[31m&amp;{{ 7 * 7 }}'


class Page(HTMLParser):
    """A page as its tags and its text; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tiny_detector(monkeypatch)
        train(write_squares(folder / "squares"), folder, batch=4, epochs=1, plots=True)
    return folder / "train"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "train")


def test_a_run_ends_with_a_page_that_stands_alone_and_says_what_its_files_say(run: Path) -> None:
    shown, results = page_of(run), json.loads((run / "results.json").read_text())
    addresses = [v for _, attrs in shown.tags for k, v in attrs.items() if k in ("src", "href")]
    assert len(addresses) >= 5 and all(str(a).startswith("data:image/") for a in addresses)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in shown.tags}
    assert all(attrs.get("alt") for tag, attrs in shown.tags if tag == "img")
    assert f"AP is {results['metrics']['map']:.3f}" in shown.text
    assert "and epoch 1 was the best" in shown.text and "It trained in fp32" in shown.text
    levels = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_the_command_of_the_page_is_the_run_again(run: Path) -> None:
    command = re.search("det train .*", page_of(run).text)
    assert command is not None
    words = command[0].split()
    args = yaml.safe_load((run / "args.yaml").read_text())
    assert f"data={args['data']}" in words and "epochs=1" in words and "batch=4" in words
    assert not [word for word in words if word.startswith(("resume=", "lr0=", "mosaic="))]


def test_the_hardest_images_are_named_and_counted(run: Path) -> None:
    kinds = json.loads((run / "hardest.json").read_text())
    assert set(kinds) == {"missed", "false", "overlap"}
    text = " ".join(page_of(run).text.split())
    for kind, images in kinds.items():
        assert bool(images) == (run / f"hardest_{kind}.jpg").exists()
        values = [image[kind] for image in images]
        assert values == sorted(values, reverse=kind != "overlap")
        for image in images:
            assert f"{image['image']}: {image['missed']} of {image['true']} boxes missed" in text
    assert kinds["missed"] or kinds["false"]


def test_frequent_errors_say_what_was_missed_found_and_mistaken() -> None:
    metrics = {
        "per_class": [{"name": "cat"}, {"name": "dog"}],
        "confusion": [[9, 2, 5], [0, 8, 0], [0, 7, 0]],
    }
    assert confused(metrics) == [(7, None, "dog"), (5, "cat", None), (2, "cat", "dog")]


def nasty(value: Any) -> Any:
    """Every text in a JSON file, made hostile."""
    if isinstance(value, dict):
        return {key: nasty(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nasty(item) for item in value]
    return value + NASTY if isinstance(value, str) else value


def test_what_others_wrote_is_shown_as_text(run: Path) -> None:
    tags = [tag for tag, _ in page_of(run).tags]
    run = run.rename(run.with_name("<b>\"'\n\x1b[31m"))
    args = yaml.safe_load((run / "args.yaml").read_text()) | {"data": "<b> $(x); " + NASTY}
    (run / "args.yaml").write_text(yaml.safe_dump(args))
    for name in ("results.json", "hardest.json"):
        file = run / name
        content = nasty(json.loads(file.read_text()))
        content |= {"findings": [NASTY], "failures": [NASTY]} if name == "results.json" else {}
        file.write_text(json.dumps(content))
    write_report(run)
    shown = page_of(run)
    assert [tag for tag, _ in shown.tags if tag not in ("li", "ul", "h3", "p")] == [
        tag for tag in tags if tag not in ("li", "ul", "h3", "p")
    ]
    assert "'data=<b> $(x); " in shown.text  # quoted for the shell
    assert not any("onerror" in attrs for _, attrs in shown.tags)
    assert '<img src=x onerror="a()">' in shown.text and "{{ 7 * 7 }}" in shown.text
    assert "\x1b" not in shown.text and r"\x1b[31m" in shown.text


def test_report_writes_the_page_of_an_old_run_anew(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "report.html").read_bytes()
    for name in ("report.html", "hardest.json"):
        (run / name).unlink()
    assert main(["report", str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    assert "errors are red" in page_of(run).text  # val_worst.jpg, which older runs have
    assert abs(len((run / "report.html").read_bytes()) - len(before)) < len(before)
    assert main(["report", f"project={run.parent}"]) == 0


def test_a_folder_without_a_run_and_a_damaged_one_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    told = capsys.readouterr().err
    assert "no results.json there" in told and "version of det" not in told
    for text in ("[]", "{}", '{"metrics": {"map": "x"}}', '{"metrics": {}, "train_seconds": 1}'):
        (run / "results.json").write_text(text)
        with pytest.raises(NoRun, match=r"expected|not those of a run"):
            write_report(run)
    (run / "results.json").write_text("{")
    assert main(["report", str(run)]) in (1, 2)
    assert "not valid JSON" in capsys.readouterr().err


def test_a_fault_in_the_page_never_stops_a_run(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(parts: dict[str, Any]) -> str:
        raise ZeroDivisionError("a fault in the page")

    monkeypatch.setattr(page, "render", broken)
    train(squares, tmp_path, batch=4, epochs=1)
    assert (tmp_path / "train" / "results.json").exists()
    assert not (tmp_path / "train" / "report.html").exists()
    assert (tmp_path / "train" / "log.txt").read_text().count("a fault in the page") == 1


def test_a_validation_has_a_page_and_report_false_has_none(squares: Path, tmp_path: Path) -> None:
    best = train(squares, tmp_path, batch=4, epochs=1, report=False)["best"]
    assert not (tmp_path / "train" / "report.html").exists()
    val(model=best, data=str(squares), project=str(tmp_path))
    assert "was measured in fp32" in page_of(tmp_path / "val").text
    shutil.rmtree(tmp_path / "val")
    val(model=best, data=str(squares), project=str(tmp_path), report=False)
    assert not (tmp_path / "val" / "report.html").exists()
