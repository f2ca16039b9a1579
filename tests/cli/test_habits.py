"""Commands as people type them for Ultralytics: each has its meaning, or says what differs."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from exports import make_run
from habits import DIFFERENT, REFUSED, SAME_COMMANDS, SAME_WORDS
from tiny import use_tiny_detector
from yolodet.cli import main
from yolodet.detector.options import foreign_file
from yolodet.detector.train import pipeline as training
from yolodet.detector.train.freeze import freeze
from yolodet.files.errors import DetError

EVERYTHING = {
    **foreign_file.DEFAULTS, "task": "detect", "mode": "train", "data": "data/data.yaml",
    "model": "yolo26n.pt", "epochs": 3, "batch": 8, "lr0": 0.002, "mosaic": 0.5, "time": None,
    "name": "train", "project": None, "device": None, "cfg": None, "classes": None, "nms": None,
    "save_dir": "/home/me/runs/detect/train", "conf": None, "visualize": True, "line_width": None,
    "half": True,
}  # fmt: skip
"""A whole args.yaml."""


class Enough(DetError):
    """Ends a training."""

    exit_code = 0


@dataclass
class Ran:
    """What the pipelines of det were given."""

    configs: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, data, images and lists."""
    folder = tmp_path_factory.mktemp("habits")
    with pytest.MonkeyPatch.context() as patch:
        make_run(folder, patch)
    for name in ("data/images", "data/labels", "many"):
        (folder / name).mkdir(parents=True)
    for name in ("image.png", "data/images/0.png", "many/a.png"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), np.uint8))
    (folder / "data/labels/0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data/data.yaml").write_text("train: images\nval: images\nnames: [a, b, c]\n")
    (folder / "yolo26n_openvino_model").mkdir()
    (folder / "list.txt").write_text("image.png\n")
    (folder / "list.csv").write_text("image.png\n")
    (folder / "cameras.streams").write_text("rtsp://one/a\nrtsp://two/b\n")
    (folder / "args.yaml").write_text(yaml.safe_dump({**EVERYTHING, "half": False}))
    (folder / "faults.yaml").write_text(yaml.safe_dump({**EVERYTHING, "cutmix": 0.5}))
    state = Path(__file__).parents[1] / "fixtures" / "old_last.pt"
    (folder / "runs/train/weights/last.pt").write_bytes(state.read_bytes())
    return folder


@pytest.fixture
def ran(room: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Everything up to the pipelines is real; they note what they are given and do nothing."""
    from yolodet.detector.checkpoints import evaluate
    from yolodet.detector.commands import export
    from yolodet.detector.export import check
    from yolodet.detector.predict import pipeline as predicting
    from yolodet.detector.track import pipeline as tracking

    monkeypatch.chdir(room)
    done = Ran()

    def note(config: Any, *_: Any, **__: Any) -> None:
        done.configs.append(asdict(config))
        raise Enough("enough")

    monkeypatch.setattr(training, "train", note)
    monkeypatch.setattr("yolodet.detector.repeat.pipeline.train", note)
    monkeypatch.setattr(evaluate, "val", note)
    monkeypatch.setattr(predicting, "predict", note)
    monkeypatch.setattr(tracking, "track", note)
    monkeypatch.setattr("yolodet.detector.commands.track.find_spec", lambda name: name)
    monkeypatch.setattr(export, "export", note)
    monkeypatch.setattr(export, "bench_export", note)
    monkeypatch.setattr("yolodet.detector.commands.tune.search", note)
    monkeypatch.setattr(check, "require", lambda row: None)  # whatever is installed here
    return done


def split(typed: str) -> list[str]:
    return shlex.split(typed)


@pytest.mark.parametrize(("typed", "meaning"), SAME_COMMANDS, ids=[t for t, _ in SAME_COMMANDS])
def test_a_command_of_ultralytics_means_the_same(
    ran: Ran, capsys, typed: str, meaning: str
) -> None:
    assert main(split(typed)) == 0, capsys.readouterr().err
    (config,) = ran.configs
    wanted = dict(part.split("=", 1) for part in _parts(meaning))
    assert {name: str(config[name]) for name in wanted} == wanted
    said = capsys.readouterr().err
    assert "has no effect" not in said or "cfg=" in typed


def _parts(meaning: str) -> list[str]:
    """``a=1 b=(1, 2)`` in two."""
    parts: list[str] = []
    for word in meaning.split(" "):
        if "=" in word:
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    return parts


@pytest.mark.parametrize(("typed", "printed"), SAME_WORDS)
def test_a_word_of_ultralytics_prints_the_same(capsys, typed: str, printed: str) -> None:
    assert main(typed.split()) == 0
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "said"), DIFFERENT, ids=[typed for typed, _ in DIFFERENT])
def test_what_is_different_is_said_once(
    room: Path, monkeypatch: pytest.MonkeyPatch, ran: Ran, capsys, typed: str, said: str
) -> None:
    monkeypatch.undo()  # the lines of the pipelines themselves are wanted
    monkeypatch.chdir(room)
    use_tiny_detector(monkeypatch)
    monkeypatch.setattr(training, "decide_precision", end)  # everything has been said by then
    code = main([*split(typed), *QUICK[split(typed)[0]]])
    err = capsys.readouterr().err
    assert code == 0, err
    assert err.count(said) == 1


def end(*_: Any) -> None:
    raise Enough("enough")


QUICK = {
    "train": ["imgsz=32", "plots=False", "workers=0", "amp=False"],
    "val": ["plots=False", "workers=0"], "predict": ["save=False"],
    "export": ["format=torchscript"],
}  # fmt: skip


@pytest.mark.parametrize(("typed", "said"), REFUSED, ids=[typed for typed, _ in REFUSED])
def test_what_det_cannot_do_is_refused_in_one_line(ran: Ran, capsys, typed: str, said: str) -> None:
    assert main(split(typed)) == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("det: error: ") and err.count("\n") == 1
    assert out == "" and not ran.configs


def test_the_list_is_long_and_most_of_it_is_the_same() -> None:
    commands = [typed for typed, _ in (*SAME_COMMANDS, *SAME_WORDS, *DIFFERENT, *REFUSED)]
    same = len(SAME_COMMANDS) + len(SAME_WORDS)
    assert len(commands) >= 200 and same >= 170
    assert len({*(t for t, _ in SAME_COMMANDS), *(t for t, _ in REFUSED)}) >= 200


def test_a_whole_options_file_names_all_that_det_cannot_do_in_one_error(
    ran: Ran, room: Path, capsys
) -> None:
    content = {**EVERYTHING, "half": False, "cutmix": 0.5, "bgr": 0.1, "epochs": "many"}
    (room / "two.yaml").write_text(yaml.safe_dump(content))
    assert main(["train", "cfg=two.yaml"]) == 2
    err = capsys.readouterr().err
    assert "cutmix=0.5: det has no CutMix" in err and "bgr=0.1: det trains on RGB" in err


def test_the_first_layers_are_those_of_the_backbone_as_ultralytics_counts_them() -> None:
    from yolodet.detector.models.build import build

    model = build("yolo26n", 2)
    freeze(model, 10)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters()
        if name.startswith(("backbone.stem", "backbone.stage", "backbone.pool"))
    }  # fmt: skip
    other = build("yolov8n", 2)
    freeze(other, ("model.0", "2", "neck"))
    frozen = ("backbone.stem", "backbone.stage2.mix", "neck")
    for name, parameter in other.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen), name
