"""Ranges as they are typed, the default space, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from yolodet import cli
from yolodet.detector.options.argv import read_words
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.ranges import Range, read_range, read_ranges
from yolodet.detector.options.spans import as_words
from yolodet.detector.options.tune import TuneConfig
from yolodet.detector.tune import check
from yolodet.detector.tune.space import default_space, nominal, read_space, write_space


def test_ranges_are_typed_as_options_or_together() -> None:
    typed = (
        "tune data=a.yaml lr0=log:1e-4..1e-1 mosaic=0..1 optimizer=MuSGD|AdamW epochs=9 time=30m"
    )
    config, given = parse(TuneConfig, read_words(typed.split()).words)
    assert config.ranges is not None and config.lr0 is None and config.mosaic == 1.0
    assert read_ranges(config.ranges) == {
        "lr0": Range("lr0", 1e-4, 1e-1, log=True),
        "mosaic": Range("mosaic", 0.0, 1.0),
        "optimizer": Range("optimizer", choices=("MuSGD", "AdamW")),
    }
    assert "epochs" in given and "lr0" not in given and config.time == 0.5
    assert read_range("close_mosaic", "2..10") == Range("close_mosaic", 2, 10, whole=True)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mosaic", "0..2", "mosaic=2 is out of range"),
        ("lr0", "1e-1..1e-4", "the first number must be the smaller one"),
        ("lr0", "log:0..1", "begins above 0"),
        ("optimizer", "MuSGD|AdamWW", "did you mean 'AdamW'"),
        ("optimizer", "MuSGD|MuSGD", "two different choices"),
        ("optimizer", "0..1", "with | between choices"),
        ("epochs", "1..9", "epochs cannot be searched"),
        ("project", "a|b", "project cannot be searched"),
        ("lr", "0..1", "use lr0="),
        ("mosaic", "0.5", "expected a range"),
    ],
)
def test_a_wrong_range_is_answered(name: str, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_range(name, text)


def test_python_spells_ranges_with_tuples_and_lists() -> None:
    space = {"lr0": "log:1e-4..1e-1", "mosaic": (0, 1), "optimizer": ["MuSGD", "SGD"]}
    assert as_words(space) == {
        "lr0": "log:1e-4..1e-1", "mosaic": "0..1", "optimizer": "MuSGD|SGD",
    }  # fmt: skip
    assert as_words(None) == {} and as_words("space.yaml") == {"space": "space.yaml"}


@pytest.mark.parametrize("images", [8, 205, 118_287])
@pytest.mark.parametrize("words", [{}, {"optimizer": "AdamW"}, {"epochs": 3}, {"batch": 4}])
def test_the_defaults_lie_in_the_default_space_and_what_is_typed_does_not_vary(
    images: int, words: dict[str, Any]
) -> None:
    config, given = parse(TuneConfig, {"data": "a.yaml", **words})
    space, usual = default_space(config, given, images), nominal(config, images)
    assert {"lr0", "mosaic", "ema_decay", "warmup_epochs"} <= space.keys()
    outside = [name for name, span in space.items() if not span.holds(usual[name])]
    assert outside == [] or outside == ["lr_transferred"]
    config, given = parse(TuneConfig, {"data": "a.yaml", **words, "mosaic": 0.5, "ema": False})
    assert not {"mosaic", "ema_decay"} & default_space(config, given, images).keys()


def test_a_space_is_read_as_it_was_written(tmp_path: Path) -> None:
    space = read_ranges("lr0=log:1e-4..1e-1 close_mosaic=1..9 optimizer=MuSGD|AdamW")
    write_space(tmp_path / "space.yaml", space)
    assert read_space(tmp_path / "space.yaml") == space
    (tmp_path / "bad.yaml").write_text("mosaics: 0..1\n")
    with pytest.raises(UsageError, match=r"bad.yaml: unknown option 'mosaics': did you mean"):
        read_space(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("device=0,1 engine=ray", "Ray gives each trial its GPU"),
        ("ray_address=10.0.0.1:6379", "add engine=ray"),
        ("workers=0", "expected a whole number from 1"),
        ("save=False", "goes on from checkpoints"),
        ("val=False", "needs an AP"),
        ("log=json", "belongs to det train"),
        ("resume=nowhere", "there is no search"),
        ("mosaic=1..0", "must be the smaller one"),
        ("data=absent.yaml", "absent.yaml"),
        ("use_ray=5", "write engine=ray"),
    ],
)
def test_refused_early(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: object())
    assert cli.main(["tune", *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not Path("runs").exists()


def test_without_optuna_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["tune", "data=shapes"]) == 2
    assert "pip install 'yolodet[tune]'" in capsys.readouterr().err
