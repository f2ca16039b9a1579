"""What a run is made of: where its weights start, what is frozen, which images and sizes it sees;
and that all of it together learns."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from tiny import (
    make_trainer,
    same,
    train,
    train_config,
    val,
)
from yolodet.datasets.drawn.shapes import SHAPE_CLASSES, draw_scene
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.checkpoints.statistics import settle_filters
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run.folder import LAST
from yolodet.detector.run.log import Log
from yolodet.detector.train import pipeline
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.multi_scale import resized
from yolodet.weights.checkpoint import load_state, load_weights, read_meta

pytestmark = pytest.mark.usefixtures("tiny_models")


def stages_of(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """A state dict by stage: backbone.stem, head.one_to_one ..."""
    names = dict.fromkeys(".".join(key.split(".")[:2]) for key in tensors)
    return {n: {k: v for k, v in tensors.items() if k.startswith(n + ".")} for n in names}


# ---------------------------------------------------------------- classes by name


def renamed(data: Path, folder: Path, names: Sequence[str], order: Sequence[int]) -> Path:
    """The data set with other names, and class ``n`` of the old one as ``order[n]``."""
    copy = shutil.copytree(data.parent, folder) / data.name
    for file in copy.parent.glob("labels/*/*.txt"):
        rows = [line.split(" ", 1) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{order[int(label)]} {box}\n" for label, box in rows))
    text = yaml.safe_load(copy.read_text())
    copy.write_text(yaml.safe_dump({**text, "path": str(folder), "names": list(names)}))
    return copy


def test_names_in_another_order_are_matched_and_other_names_are_pointed_out(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, names = train(shapes, tmp_path, epochs=1)["best"], list(SHAPE_CLASSES)
    order = list(range(len(names)))
    turned = renamed(shapes, tmp_path / "turned", names[::-1], order[::-1])
    words = {"model": best, "project": str(tmp_path), "save_json": True}
    results = [val(data=str(data), name=data.parent.name, **words) for data in (shapes, turned)]
    rows = [[(row["name"], row["boxes"]) for row in r["metrics"]["per_class"]] for r in results]
    assert rows[0] == rows[1] and len({boxes for _, boxes in rows[0]}) > 1
    said = capsys.readouterr().err
    assert "the names are the same in another order; labels are matched by name" in said
    other = renamed(shapes, tmp_path / "other", [*names[:-1], "watch"], order)
    result = val(data=str(other), **words)
    assert result["metrics"]["per_class"][-1]["name"] == names[-1]
    said = " ".join(capsys.readouterr().err.split())
    assert f"class {len(names) - 1} is 'watch' in {other}, {names[-1]!r} in {best}" in said


@pytest.mark.parametrize(
    ("names", "said"),
    [(["a", "b"], "has 2 classes, the run has 1"), (["cube"], "class 0 is 'cube' in data=")],
    ids=["count", "name"],
)
def test_a_run_does_not_go_on_with_other_classes(
    squares: Path, tmp_path: Path, names: list[str], said: str
) -> None:
    train(squares, tmp_path / "runs", epochs=1)
    words = {"resume": tmp_path / "runs" / "train", "epochs": 2}
    config, _ = train_config(renamed(squares, tmp_path / "x", names, [0]), tmp_path, **words)
    with pytest.raises(UsageError, match=said) as refusal:
        pipeline.train(config, frozenset(("data", *words)), Log(verbose=False))
    assert "start a new run from its weights" in str(refusal.value)


def test_one_image_of_one_pixel_of_features_is_refused_before_the_run(
    squares: Path, tmp_path: Path
) -> None:
    said = "batch=7 leaves a training batch with one image, too few for batch norm at 32 pixels"
    for words in ({"imgsz": 32}, {"imgsz": 64, "multi_scale": 0.5}):
        with pytest.raises(UsageError, match=said):
            train(squares, tmp_path / "runs", batch=7, **words)
    assert not (tmp_path / "runs").exists()
    assert train(squares, tmp_path / "runs", batch=7, imgsz=64, epochs=1)["epochs"] == 1
    assert train(squares, tmp_path / "runs", batch=6, imgsz=32, epochs=1)["epochs"] == 1


# ---------------------------------------------------------------- model and data


def fresh(data: Path, tmp_path: Path, **words: Any) -> dict[str, torch.Tensor]:
    """The weights a run begins with."""
    config, _ = train_config(data, tmp_path, **words)
    return dict(assemble(config, Log(verbose=False)).model.state_dict())


@pytest.mark.parametrize(
    ("freeze", "still"),
    [(1, ["backbone.stem"]),
     ("backbone.stem,backbone.stage3", ["backbone.stem", "backbone.stage3"]),
     ("backbone.stage4, head.one_to_many", ["backbone.stage4", "head.one_to_many"])],
    ids=str,
)  # fmt: skip
def test_frozen_stages_keep_weights_and_statistics(
    squares: Path, tmp_path: Path, freeze: Any, still: list[str]
) -> None:
    before = stages_of(fresh(squares, tmp_path, freeze=freeze))
    train(squares, tmp_path, freeze=freeze, epochs=1)
    after = stages_of(load_state(tmp_path / "train" / LAST)["model"])
    assert [name for name in before if same(before[name], after[name])] == still


@pytest.mark.parametrize(
    ("freeze", "words"),
    [("backbone.stemm", r"no stage 'backbone.stemm'; did you mean 'backbone.stem'\? It has ba"),
     (99, "freeze=99: yolo26n has the layers 0 to 23"),
     ("backbone,head", "freeze leaves nothing to train")],
)  # fmt: skip
def test_a_wrong_freeze_says_what_there_is(
    squares: Path, tmp_path: Path, freeze: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train(squares, tmp_path / "runs", freeze=freeze)
    assert not (tmp_path / "runs").exists()


def test_single_cls_makes_one_class_of_all(shapes: Path, tmp_path: Path) -> None:
    results = train(shapes, tmp_path, single_cls=True, epochs=1)
    model, meta = restore(Path(results["best"]))
    assert meta.class_names == ("object",) and model.num_classes == 1
    boxes = results["metrics"]["num_boxes"]
    assert boxes > 3 and results["metrics"]["per_class"][0]["boxes"] == boxes
    again = val(model=results["best"], project=str(tmp_path))
    assert again["metrics"]["num_boxes"] == boxes


def test_fraction_uses_a_share_of_the_training_images_only(shapes: Path, tmp_path: Path) -> None:
    results = train(shapes, tmp_path, fraction=0.5, epochs=1)
    assert (results["data"]["train_images"], results["data"]["val_images"]) == (6, 3)


def test_multi_scale_draws_a_size_for_each_batch(shapes: Path, tmp_path: Path) -> None:
    sizes: list[list[int]] = []
    for name in ("a", "b"):
        words = {"imgsz": 128, "multi_scale": 0.5, "epochs": 3, "val": False}
        trainer = make_trainer(shapes, tmp_path / name, **words)
        found: list[int] = []
        stem = trainer.run.model.backbone.stem
        stem.register_forward_pre_hook(lambda m, x, f=found: f.append(x[0].shape[-1]))
        trainer._finish_epoch = lambda t=trainer: (  # type: ignore[method-assign]
            setattr(t.at, "epoch", t.at.epoch + 1), setattr(t.at, "batch", 0)
        )  # fmt: skip
        trainer.fit()
        sizes.append(found)
    assert sizes[0] == sizes[1] and len(sizes[0]) == 12
    assert set(sizes[0]) <= {64, 96, 128, 160, 192} and len(set(sizes[0])) >= 3


def test_multi_scale_moves_boxes_with_the_pixels(squares: Path, tmp_path: Path) -> None:
    batch = next(iter(make_trainer(squares, tmp_path).run.val_loader.epoch(0)))
    seen = set()
    for number in range(12):
        scaled = resized(batch, 0.9, 32, (0, 0, number))
        size = scaled.images.shape[-1]
        assert scaled.images.dtype == torch.uint8 and scaled.images.shape[-2] == size
        assert torch.allclose(scaled.boxes / size, batch.boxes / 64)
        for i in range(len(batch)):  # the bright square is where its box is
            x1, y1, x2, y2 = scaled.boxes[i].tolist()
            bright = (scaled.images[i, 0] > 128).nonzero().float()
            found = torch.cat((bright.amin(0).flip(0), bright.amax(0).flip(0) + 1))
            assert torch.allclose(found, torch.tensor([x1, y1, x2, y2]), atol=1.01)
        seen.add(size)
    assert {32, 64, 96} <= seen


def test_a_run_starts_from_a_checkpoint_with_other_classes(
    shapes: Path, squares: Path, tmp_path: Path
) -> None:
    best = train(shapes, tmp_path, epochs=1)["best"]
    model, meta = restore(Path(best))
    assert meta.num_classes == 10
    learned = model.state_dict()
    settle_filters(model, learned, Log(verbose=False))  # as every start does, in place
    for words in ({"model": best}, {"pretrained": best}):
        begun = fresh(squares, tmp_path, seed=5, **words)
        fits = [key for key in begun if begun[key].shape == learned[key].shape]
        assert [key for key in fits if not same(begun[key], learned[key])] == []
        alone = begun.keys() - fits
        assert alone and all(".classes." in key for key in alone)
    results = train(squares, tmp_path, model=best, epochs=1)
    after = read_meta(Path(results["best"]))
    assert after.class_names == ("square",) and "best.safetensors" in after.provenance


def test_classes_of_the_same_name_keep_what_they_learnt(shapes: Path, tmp_path: Path) -> None:
    """Also where the data set orders them differently."""
    best = Path(train(shapes, tmp_path, epochs=1)["best"])
    learned, meta = load_weights(best)
    names = list(meta.class_names)
    turned = names[1:] + names[:1]
    text = "\n".join(f"  {i}: {name}" for i, name in enumerate(turned))
    (shapes.parent / "turned.yaml").write_text(
        f"train: images/train\nval: images/val\nnames:\n{text}\n"
    )
    begun = fresh(shapes.parent / "turned.yaml", tmp_path, model=str(best))
    key = "head.one_to_one.classes.0.1.weight"
    assert same(begun[key], learned[key].roll(-1, 0)) and not same(begun[key], learned[key])


def test_a_data_set_smaller_than_a_batch_is_used_several_times(
    squares: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(squares, tmp_path, batch=16, nbs=16)
    images = [path for batch in trainer.run.train_loader.epoch(0) for path in batch.paths]
    assert len(images) >= 16 and len(set(images)) == 8
    assert max(map(images.count, images)) == min(map(images.count, images))


def test_imgsz_is_rounded_up_to_the_stride(squares: Path, tmp_path: Path) -> None:
    results = train(squares, tmp_path, imgsz=70, epochs=1)
    assert read_meta(Path(results["best"])).image_size == 96
    assert "rounded up to 96" in (tmp_path / "train" / "log.txt").read_text()


# ---------------------------------------------------------------- learning


def write_scenes(folder: Path, numbers: Sequence[int]) -> Path:
    """The drawn scenes of these numbers, to train and to validate on."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in numbers:
        image, boxes, labels = draw_scene(0, number, 160)
        height, width = image.shape[:2]
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), image[..., ::-1])
        rows = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1)
        rows /= (width, height, width, height)
        lines = [" ".join(map(str, (label, *row))) for label, row in zip(labels, rows, strict=True)]
        (folder / "labels" / f"{number}.txt").write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(SHAPE_CLASSES))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}\n")
    return folder / "data.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("amp", [True, False])
def test_four_images_are_learnt_by_heart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amp: bool
) -> None:
    """The whole way with the real detector: what is not learned here cannot be learned at all.  The
    scenes are ones without objects of a few pixels, which take longer."""
    monkeypatch.undo()
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    data = write_scenes(tmp_path / "four", (70, 75, 128, 163))
    plain = {"mosaic": 0.0, "scale": 0.1, "translate": 0.0}
    words = {"epochs": 400, "imgsz": 160, "batch": 4, "nbs": 4, "val": False}
    results = train(data, tmp_path, amp=amp, **words, **plain)
    assert results["metrics"]["num_boxes"] == 11
    assert results["metrics"]["map_50"] >= 0.95
    again = val(model=results["best"], project=str(tmp_path))
    assert again["metrics"]["map"] == pytest.approx(results["metrics"]["map"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_model_learns_what_the_plain_one_learns(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    right = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or right(model))
    losses = []
    for compiles in (False, True):
        words = {"epochs": 2, "plots": False, "compile": compiles, "name": str(compiles)}
        folder = Path(train(shapes, tmp_path, **words)["folder"])
        rows = csv.DictReader((folder / "results.csv").open())
        names = ("train/box_loss", "train/cls_loss", "train/dfl_loss")
        losses.append([[float(row[name]) for name in names] for row in rows])
    assert len(compiled) == 1
    assert np.allclose(*losses, rtol=1e-3) and np.shape(losses) == (2, 2, 3)
