"""Training and validation in tiles: measured on whole images, kept with the run, continued."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import make_meta
from perfect import PerfectDetector, draw_rectangles
from rows import each
from tiny import same, train, val
from yolodet.cli import main
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.batches.tiles import cut
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.tiling import Tiling
from yolodet.datasets.scan.doctor import check_dataset, compare_splits
from yolodet.datasets.scan.scan import Scan, scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.evaluate.class_names import GroundTruth
from yolodet.detector.evaluate.evaluator import detect_images, evaluate, join_detected
from yolodet.detector.evaluate.pictures import plot_detections
from yolodet.detector.export.proof.examiner import truth_of
from yolodet.detector.losses.labeled import LabeledClasses
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.export import ExportConfig
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.log import Log
from yolodet.detector.train.kept_classes import Kept
from yolodet.detector.train.tiles import samples_of
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import load_state, read_meta

SIZE = (300, 420)
TILING = Tiling(160, 0.2)
DETECT, CPU = DetectOptions(conf=0.001), ForwardOptions(torch.device("cpu"))
LARGE = {"imgsz": 64, "tile": 96, "batch": 4}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Four images of rectangles on a grid that the tiles cut anywhere."""
    folder = tmp_path_factory.mktemp("rectangles")
    found = []
    for number in range(4):
        rng = np.random.default_rng(number)
        corners = np.array([(x, y) for y in (4, 100, 200) for x in (4, 140, 290)])
        boxes = np.concatenate((corners, corners + rng.integers(8, 92, (9, 2))), 1)
        path = folder / f"{number}.png"
        assert cv2.imwrite(str(path), draw_rectangles(SIZE, boxes)[:, :, ::-1])
        found.append(Record(path, SIZE, boxes.astype(np.float32), np.arange(9) % 2))
    return found


def in_tiles(records, batch=4):
    samples, tiles = cut(records, TILING)
    data = DetectionDataset(samples, 160, augment=None, tiles=tiles)
    loader = Loader(data, batch, shuffle=False, workers=0)
    return loader, GroundTruth(records, ["even", "odd"], tiles=tiles)


def test_metrics_are_those_of_whole_images(records):
    loader, truth = in_tiles(records)
    found = evaluate(PerfectDetector(), loader, truth, DETECT, CPU)
    assert found.metrics.map == pytest.approx(1.0) and found.metrics.num_images == 4
    assert found.metrics.num_boxes == 36 and len(found.collector.coco_results()) == 36
    assert found.paths == [record.path for record in records]
    assert len(found.pictures) == 12 and found.speed["inference"] > 0


def test_ranks_that_share_the_tiles_of_an_image_measure_the_same(records):
    loader, truth = in_tiles(records, batch=5)

    class Part:
        """What one of two ranks sees."""

        def __init__(self, rank):
            self.rank = rank

        def __len__(self):
            return len(loader)

        def epoch(self, epoch):
            return list(loader.epoch(epoch))[self.rank :: 2]

    parts = [detect_images(PerfectDetector(), Part(rank), truth, DETECT, CPU) for rank in (1, 0)]
    both = join_detected(parts).joined(truth).measure()
    alone = evaluate(PerfectDetector(), loader, truth, DETECT, CPU)
    assert both.metrics.to_dict() == alone.metrics.to_dict() and both.paths == alone.paths


def test_an_image_with_a_lost_tile_counts_neither_way(records, tmp_path):
    gone = Record(tmp_path / "gone.png", SIZE, records[0].boxes, records[0].labels)
    loader, truth = in_tiles([records[0], gone, records[1], records[2]])
    found = evaluate(PerfectDetector(), loader, truth, DETECT, CPU)
    assert found.metrics.num_images == 3 and found.metrics.map == pytest.approx(1.0)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Drawn scenes of 240 pixels."""
    folder = tmp_path_factory.mktemp("large") / "set"
    return write_shapes(folder, train=5, val=3, size=240)


@pytest.mark.usefixtures("tiny_models")
def test_a_run_keeps_its_tiles_and_val_measures_the_same(large, tmp_path):
    results = train(large, tmp_path / "runs", epochs=1, **LARGE)
    assert results["metrics"]["num_images"] == 3
    meta = read_meta(Path(results["best"]))
    assert (meta.config["tile"], meta.data["train_images"]) == (96, 5)
    word = {"model": results["best"], "data": str(large), "project": str(tmp_path / "runs")}
    word["save_json"] = True
    kept, typed, whole = (
        val(**word, **more) for more in ({}, {"tile": 96, "overlap": 0.2, "batch": 3}, {"tile": 0})
    )
    assert same(kept["metrics"], results["metrics"]) and same(typed["metrics"], kept["metrics"])
    written = [json.loads((Path(each["folder"]) / "predictions.json").read_text())
               for each in (kept, typed, whole)]  # fmt: skip
    assert written[0] == written[1] != written[2] and len(written[0]) > 100
    assert (kept["tile"], whole["tile"]) == (96, None) and whole["metrics"]["num_images"] == 3


@pytest.mark.usefixtures("tiny_models")
def test_a_run_in_tiles_goes_on_bit_for_bit(large, tmp_path, monkeypatch):
    whole = train(large, tmp_path / "whole", **LARGE)
    learn, steps = Trainer._train_batch, []

    def dying(self, *arguments):
        steps.append(1)
        if self.at.epoch == 1:
            raise RuntimeError("power cut")
        learn(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_batch", dying)
        with pytest.raises(RuntimeError, match="power cut"):
            train(large, tmp_path / "cut", **LARGE)
    folder = str(tmp_path / "cut" / "train")
    with pytest.raises(UsageError, match="cannot change tile"):
        train(large, tmp_path / "cut", resume=folder, tile=128)
    resumed = train(large, tmp_path / "cut", resume=folder)
    ends = [load_state(Path(results["last"])) for results in (whole, resumed)]
    assert same(ends[0]["model"], ends[1]["model"]) and len(steps) > 2
    assert resumed["metrics"]["map"] == whole["metrics"]["map"]


@each("words", ["overlap=0.3", "empty_tiles=1", "tile=10", "tile=96 overlap=0.9"])
def test_options_without_effect_are_refused(words, large, capsys):
    assert main(["train", f"data={large}", *words.split()]) == 2
    assert words.split()[-1].partition("=")[0] in capsys.readouterr().err


def test_replayed_images_stay_behind_the_border(records):
    scan = Scan("train", records, [], "x", 4, [])
    kept = Kept((scan, scan), 2, LabeledClasses(torch.ones(2, 3, dtype=torch.bool), 2))
    config = parse(TrainConfig, {"tile": 160, "empty_tiles": 0})[0]
    samples = samples_of(config, kept, Log(verbose=False))
    border = samples.border
    owners = samples.tiles[0].owners
    assert owners[border - 1] == 1 and owners[border] == 2 and samples.labeled.replayed == border
    plain = samples_of(parse(TrainConfig, {})[0], kept, Log(verbose=False))
    assert plain.scans is kept.scans and plain.border == 2 and plain.labeled is kept.labeled


def test_an_empty_tile_for_every_second_one(records, capsys):
    scan = Scan("train", records, [], "x", 4, [])
    empty = Record(Path("b.png"), (2000, 2000), np.zeros((0, 4), np.float32), np.zeros(0, int))
    blank = Scan("train", [*records, empty, empty], [], "x", 6, [])
    for rate in (0.0, 0.5):
        config = parse(TrainConfig, {"tile": 160, "empty_tiles": rate})[0]
        chosen = samples_of(config, Kept((blank, scan)), Log(verbose=True))
        counts = [len(record.labels) > 0 for record in chosen.scans[0].records]
        filled = sum(counts)
        assert len(counts) - filled == round(rate * filled)
        assert (
            f"{len(counts)} tiles of 6 images to train on, {filled} with" in capsys.readouterr().err
        )
    assert len(chosen.scans[1].records) == 4 * len(TILING.of(SIZE))
    assert chosen.scans[0].fingerprint != chosen.scans[1].fingerprint != scan.fingerprint


def test_tiles_that_cut_nothing_are_said(records, capsys):
    scan = Scan("train", records, [], "x", 4, [])
    samples_of(parse(TrainConfig, {"tile": 640})[0], Kept((scan, scan)), Log(verbose=False))
    assert "tile=640 changes nothing: no training image is larger" in capsys.readouterr().err


def test_the_data_check_names_tiles_where_they_would_help(tmp_path):
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (tmp_path / kind / split).mkdir(parents=True)
    for split in ("train", "val"):
        image = np.full((600, 1600, 3), 90, np.uint8)
        image[split == "val", 0] = 5
        assert cv2.imwrite(str(tmp_path / "images" / split / "1.png"), image)
        (tmp_path / "labels" / split / "1.txt").write_text("0 0.5 0.5 0.0075 0.02\n")  # 12 pixels
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [dot]\n")
    dataset = load_dataset(tmp_path / "data.yaml")
    (group,) = (g for g in check_dataset(dataset, image_size=320).groups if g.id == "box-small")
    assert group.examples[0].endswith("imgsz=640, and so do tiles: tile=320 in det train")
    scans = {"train": scan_split(dataset, "train")}
    assert any("tile=320" in line for line in compare_splits(dataset, scans, 320))
    assert compare_splits(dataset, scans, 320, tile=320) == []


def test_export_measures_in_the_tiles_of_the_checkpoint(large):
    config = parse(ExportConfig, {"data": str(large), "fraction": 0.7})[0]
    names = load_dataset(large).class_names
    whole = truth_of(config, make_meta(class_names=names), Log(verbose=False))
    meta = make_meta(class_names=names, config={"tile": 96, "overlap": 0.3})
    truth = truth_of(config, meta, Log(verbose=False))
    assert whole.tiles is None and whole.seen is whole.records and len(truth.records) == 2
    sizes = [record.size for record in truth.records]
    assert len(truth.seen) == len(truth.tiles) == sum(len(Tiling(96, 0.3).of(s)) for s in sizes)
    assert all(record.size == (96, 96) for record in truth.seen)


def test_pictures_of_tiles_have_the_name_of_their_image(records, tmp_path):
    """Also where there are more of them than images."""
    loader, truth = in_tiles(records[:1])
    evaluation = evaluate(PerfectDetector(), loader, truth, DETECT, CPU)
    assert len(evaluation.pictures) > len(evaluation.paths) == 1
    assert {picture.name for picture in evaluation.pictures} == {records[0].path.name}
    plot_detections(evaluation, truth.class_names, tmp_path / "batch.jpg")
    assert (tmp_path / "batch.jpg").is_file()


def test_paths_are_those_of_the_images_that_were_read(records, tmp_path):
    """One is gone: the label files of the others keep their names."""
    some = [replace(records[0], path=tmp_path / "gone.png"), *records[1:3]]
    loader = Loader(DetectionDataset(some, 160, augment=None), 2, shuffle=False, workers=0)
    truth = GroundTruth(some, ["even", "odd"])
    evaluation = evaluate(PerfectDetector(), loader, truth, DETECT, CPU)
    assert evaluation.paths == [record.path for record in some[1:]]
    written = evaluation.write_labels(tmp_path / "labels")
    assert [path.stem for path in written] == [record.path.stem for record in some[1:]]
