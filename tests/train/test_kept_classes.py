"""``keep_classes=True``: old classes stay, new ones are learned, and what is not labeled is not
taken for background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import LIVELY
from tiny import (
    keep_threads,
    make_batch,
    make_criterion,
    tiny_detector,
    train,
    use_tiny_detector,
    val,
    write_squares,
    write_tiny_data,
)
from torch import Tensor
from yolodet.cli import main
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.source import DataSource
from yolodet.detector.losses.labeled import LabeledClasses
from yolodet.detector.train.kept_classes import joined_names
from yolodet.weights.checkpoint import load_weights, read_meta

OLD_AND_NEW = torch.tensor([[False, True], [True, False]])
"""Of two classes, the run's data label the second and the replayed ones the first."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    keep_threads(monkeypatch)
    return tmp_path


def gradients(labeled: LabeledClasses | None) -> tuple[dict[str, Tensor], float]:
    """Of the class logits of each branch [B,A,C], and the loss.  Four images: two of the run, of
    the second class, and two replayed ones, of the first."""
    torch.manual_seed(0)
    model, criterion = tiny_detector().train(), make_criterion()
    batch = make_batch(4)
    batch = replace(batch, labels=(batch.batch_index < 2).long(), indices=[0, 1, 8, 9])
    outputs = model(batch.images)
    for predictions in outputs.values():
        predictions.logits.retain_grad()
    criterion.labeled = labeled
    loss = criterion(outputs, batch).total
    loss.backward()
    return {name: p.logits.grad for name, p in outputs.items()}, float(loss.detach())


def test_what_is_not_labeled_is_no_background() -> None:
    """Elsewhere than at labeled objects a class has gradients only where its data set labels it."""
    whole, loss = gradients(None)
    masked, _ = gradients(LabeledClasses(OLD_AND_NEW, 8))
    for name, grad in masked.items():
        known = OLD_AND_NEW[[0, 0, 1, 1]][:, None].expand_as(grad)
        torch.testing.assert_close(grad[known], whole[name][known])
        other, before = grad[~known], whole[name][~known]
        assert (before > 0).all()  # all of these points were pushed towards background
        pushed = (other != 0).sum()
        assert 0 < pushed < len(other) / 2  # now only those of objects of another class
        torch.testing.assert_close(other[other != 0], before[other != 0])
    everything, same = gradients(LabeledClasses(torch.ones(2, 2, dtype=torch.bool), 8))
    assert same == pytest.approx(loss)
    assert all(torch.allclose(everything[name], whole[name]) for name in whole)


def test_validation_images_are_those_of_the_run() -> None:
    batch = replace(make_batch(2), indices=[8, 9], letterboxes=[object(), None])
    assert LabeledClasses(OLD_AND_NEW, 8).of(batch).tolist() == [[False, True], [True, False]]


def test_images_of_two_groups_are_never_drawn_into_one(folder: Path) -> None:
    data = load_dataset(
        DataSource(str(write_squares(folder / "data")), None, None, 0, "train", None)
    )
    records = scan_split(data, "train").records
    augment = replace(LIVELY, mosaic=1.0, mixup=1.0)
    dataset = DetectionDataset(records, 64, augment=augment, border=5)
    dataset.lost[6] = "gone"
    for index in range(len(records)):
        plans = [dataset.plan((epoch, index, 0)) for epoch in range(5)]
        drawn = {p.index for plan in plans for p in (*plan.placements, *plan.mixed)}
        assert drawn <= set(range(5) if index < 5 else (5, 7)) and len(drawn) > 1


def test_names_are_joined_with_synonyms() -> None:
    assert joined_names(("couch", "dog"), ("sofa", "kangaroo")) == ("couch", "dog", "kangaroo")


def test_without_replay_a_run_says_that_it_forgets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    first = train(write_tiny_data(folder / "old"), folder / "first", epochs=1)
    words = {"model": first["best"], "keep_classes": True}
    second = train(write_squares(folder / "new"), folder / "second", epochs=1, **words)
    said = " ".join((Path(second["folder"]) / "log.txt").read_text().split())
    assert "0 images replayed" in said and "without replay= forgets the old classes" in said


def test_a_detector_keeps_its_classes_and_learns_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Rows are copied, labels renumbered, both data sets can be measured, and the run goes on."""
    use_tiny_detector(monkeypatch)
    old = write_tiny_data(folder / "old")
    first = train(old, folder / "first", epochs=1)
    names = read_meta(Path(first["best"])).class_names
    new = write_squares(folder / "new")
    words = {"model": first["best"], "keep_classes": True, "replay": str(old)}
    second = train(new, folder / "second", epochs=1, lr0=1e-9, ema=False, **words)
    best = Path(second["best"])
    assert read_meta(best).class_names == (*names, "square")
    before, after = load_weights(Path(first["best"]))[0], load_weights(best)[0]
    for key in [key for key in before if key.endswith("classes.0.1.weight")]:
        assert torch.allclose(after[key][: len(names)], before[key], atol=1e-5)
    said = " ".join((Path(second["folder"]) / "log.txt").read_text().split())
    assert f"keep_classes: {len(names)} classes of the weights, and new: square" in said
    assert "6 images replayed" in said and "14 training images" in said
    assert "forgets the old classes" not in said
    assert second["metrics"]["map"] is not None
    for data, images in ((new, 4), (old, 3)):
        found = val(model=str(best), data=str(data), project=str(folder / "val"))
        assert found["metrics"]["num_images"] == images
    assert val(model=str(best), project=str(folder / "val"))["metrics"]["num_images"] == 4
    again = train(new, folder / "second", resume=second["folder"], epochs=2)
    assert read_meta(Path(again["best"])).class_names == (*names, "square")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay=old.yaml",), "replay=old.yaml has no effect without keep_classes=True"),
        (("keep_classes=True", "model=yolo26n"), "needs weights, and model=yolo26n starts from"),
        (("keep_classes=True", "model=a.pt", "single_cls=True"), "keeps all classes"),
    ],
)
def test_words_without_a_meaning_are_refused(words: tuple[str, ...], said: str, capsys) -> None:
    assert main(["train", "data=shapes.yaml", *words]) == 2
    assert said in capsys.readouterr().err
