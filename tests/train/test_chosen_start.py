"""What a training starts from where nobody named a model: weights on disk, and what is said."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foreign_files import renamed
from local_server import serve
from tiny import keep_threads, use_tiny_detector, write_tiny_data
from yolodet.cli import main
from yolodet.detector.api import YOLO
from yolodet.detector.checkpoints.choose import FEW_IMAGES, better_start, choose_start
from yolodet.detector.models.build import build
from yolodet.detector.options.amp import AmpConfig
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.log import Log
from yolodet.weights.zoo import ZOO

NAME, FILE = "yolox_nano", "yolox_nano.pth"
QUICK = ("epochs=1", "batch=4", "imgsz=64", "amp=False", "workers=0", "device=cpu", "plots=False")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder of these tests, empty."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("DET_WEIGHTS", str(folder))
    monkeypatch.chdir(tmp_path)
    keep_threads(monkeypatch)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file as YOLOX publishes it, with weights of our own making."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / FILE
    torch.save({"model": renamed(build(NAME, 80))}, path)
    return path.read_bytes()


def test_weights_on_disk_are_taken_where_no_model_is_named(
    folder: Path, published: bytes, tmp_path: Path, capsys
) -> None:
    """With their license in the terminal and in results.json, and both learning rates."""
    (folder / FILE).write_bytes(published)
    data = write_tiny_data(tmp_path / "data")
    assert main(["train", f"data={data}", *QUICK, "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)["result"]
    assert result["model"] == NAME and result["start"]["license"] == "Apache-2.0"
    assert f"model={NAME} is chosen: its COCO 2017 weights (Apache-2.0) are on disk" in told.err
    assert "WARNING" not in told.err.partition("is chosen")[0]  # it is no cause for concern
    assert "transferred tensors learn at 0.0005" in told.err
    written = json.loads((Path(result["folder"]) / "results.json").read_text())
    assert written["start"] == result["start"]
    row = next(csv.DictReader((Path(result["folder"]) / "results.csv").open()))
    assert float(row["lr/transferred"]) == pytest.approx(0.25 * float(row["lr"]), rel=1e-3)


def test_a_start_from_scratch_is_told_what_would_be_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    use_tiny_detector(monkeypatch)
    data = write_tiny_data(tmp_path / "data")
    for words, said in (((), True), (("pretrained=False",), False)):
        assert main(["train", f"data={data}", "offline=True", *QUICK, *words]) == 0
        told = capsys.readouterr().err
        assert (f"few for a start from scratch: model={NAME} starts from COCO 2017" in told) == said
        assert "is chosen" not in told


def test_auto_downloads_weights_and_offline_does_without(
    published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with serve({f"/{FILE}": published}) as site:
        monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], base=f"{site.url}/"))
        data = write_tiny_data(tmp_path / "data")
        auto = ["train", "model=auto", f"data={data}", *QUICK, "--json"]
        use_tiny_detector(monkeypatch)
        assert main([*auto, "offline=True"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["result"]["model"] == "yolo26n" and not site.asked
        assert f"model={NAME} starts from" in told.err
        assert main(auto) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["result"]["model"] == NAME and site.asked == [f"/{FILE}"]
        assert "weights (Apache-2.0) are downloaded" in told.err


def test_a_download_that_fails_leaves_a_start_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """One line says so, with the reason and what to do."""
    use_tiny_detector(monkeypatch)
    data = write_tiny_data(tmp_path / "data")
    with serve({}) as site:
        monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], base=f"{site.url}/"))
        assert main(["train", "model=auto", f"data={data}", *QUICK, "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)["result"]
    assert result["model"] == "yolo26n" and site.asked == [f"/{FILE}"]
    warned = [line for line in told.err.splitlines() if line.startswith("WARNING: ")]
    said = next(line for line in warned if "from scratch" in line)
    assert "model=yolo26n" in said and "404" in said and f"put {FILE} into" in said
    args = (Path(result["folder"]) / "args.yaml").read_text()
    assert "model: yolo26n" in args and "pretrained: false" in args


def test_auto_is_examined_and_used_in_python(
    folder: Path, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """det amp model=auto examines what a training would start from; YOLO("auto") trains."""
    from yolodet.detector.commands import amp

    (folder / FILE).write_bytes(published)
    log = Log(verbose=False)
    config = amp._settled(AmpConfig(model="auto"), log)
    assert Path(config.model).name == f"{NAME}.safetensors" and Path(config.model).is_file()
    assert amp._settled(AmpConfig(model=NAME), log).model == NAME
    model = YOLO("auto")
    with pytest.raises(UsageError, match=r"chosen when train\(\) begins"):
        model.info()
    with pytest.raises(UsageError, match="model=auto has not been trained"):
        model.predict("image.jpg")
    words = dict(word.split("=") for word in QUICK)
    model.train(data=str(write_tiny_data(tmp_path / "data")), **words)
    assert model.name == NAME and str(model.ckpt_path).endswith("best.safetensors")


def test_what_the_user_named_stays_and_drawn_data_keep_their_model(folder: Path) -> None:
    (folder / FILE).write_bytes(b"published")
    own = TrainConfig(data="mine.yaml")
    chosen = {
        "no model": choose_start(own, frozenset())[0].model,
        "named": choose_start(own, frozenset({"model"}))[0].model,
        "from scratch": choose_start(replace(own, pretrained=False), frozenset())[0].model,
        "continued": choose_start(replace(own, resume=True), frozenset())[0].model,
        "drawn": choose_start(TrainConfig(data="shapes-easy"), frozenset())[0].model,
        "the default": choose_start(TrainConfig(), frozenset())[0].model,
        "drawn, auto": choose_start(
            TrainConfig(data="shapes-easy", model="auto"), frozenset({"model"})
        )[0].model,
    }
    taken = [case for case, model in chosen.items() if model == NAME]
    assert taken == ["no model", "drawn, auto"]
    assert set(chosen.values()) == {NAME, "yolo26n"}


def test_the_options_of_a_run_repeat_it_whatever_weights_lie_here_now(
    folder: Path, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    use_tiny_detector(monkeypatch)
    data = write_tiny_data(tmp_path / "data")
    assert main(["train", f"data={data}", *QUICK, "name=first"]) == 0
    (folder / FILE).write_bytes(published)
    capsys.readouterr()
    assert main(["train", "cfg=runs/first/args.yaml", "name=second", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["model"] == "yolo26n"
    assert main(["train", "cfg=runs/first/args.yaml", "resume=runs/first", "epochs=2"]) == 0


def test_advice_ends_where_scratch_is_as_good() -> None:
    own = TrainConfig(data="mine.yaml")
    assert better_start(own, FEW_IMAGES - 1) and better_start(own, FEW_IMAGES) is None
    assert better_start(TrainConfig(data="shapes-easy"), 100) is None
