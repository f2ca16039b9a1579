"""Architectures of files: older ones, hostile ones, and those of other classes."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rows import each
from safetensors.torch import save_file
from tiny import train_config, use_tiny_detector, write_tiny_data
from widths import build_wide
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.build import architecture_of, build, build_from, with_classes
from yolodet.detector.run.log import Log
from yolodet.detector.train import pipeline
from yolodet.weights.architecture import MAX_CHANNELS, MAX_CLASSES, ArchitectureError
from yolodet.weights.checkpoint import CheckpointError, Meta, load_state, save_weights

OLD = Path(__file__).parents[1] / "fixtures"
"""Files that version 0.1.0 wrote, before checkpoints held an architecture: a run of one epoch with
the detector of ``rigs/tiny.py``."""


def test_a_checkpoint_of_the_release_before_predicts_the_same(monkeypatch) -> None:
    use_tiny_detector(monkeypatch)
    model, meta = restore(OLD / "old_best.safetensors")
    assert (meta.schema, meta.license, meta.num_classes) == (1, "Apache-2.0", 10)
    assert meta.architecture == architecture_of(model)
    with np.load(OLD / "old_predictions.npz") as arrays:
        known = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    with torch.inference_mode():
        found = model.eval()(known["images"])
    for branch, predictions in found.items():
        for field in ("logits", "distances"):
            expected = known[f"{branch}.{field}"]
            torch.testing.assert_close(getattr(predictions, field), expected, atol=1e-5, rtol=0)


def test_a_run_of_the_release_before_goes_on(tmp_path: Path, monkeypatch) -> None:
    use_tiny_detector(monkeypatch)
    weights = tmp_path / "run" / "weights"
    weights.mkdir(parents=True)
    for name in ("last.pt", "best.safetensors"):
        (weights / name).write_bytes((OLD / f"old_{name}").read_bytes())
    data = write_tiny_data(tmp_path / "data")
    config, _ = train_config(data, tmp_path, resume=str(weights.parent), epochs=2)
    results = pipeline.train(config, frozenset(("resume", "epochs", "data")), Log(verbose=False))
    state = load_state(Path(results["last"]))
    assert state["position"]["epoch"] == 2 and state["schema"] == state["meta"]["schema"] == 2
    assert state["meta"]["architecture"]["family"] == "yolo26"


def test_towers_of_an_older_file_are_as_wide_as_its_tensors(tmp_path: Path) -> None:
    model = build_wide("yolo26n", 2, 80)
    save_weights(tmp_path / "a.safetensors", model.state_dict(), header(schema=1))
    loaded, meta = restore(tmp_path / "a.safetensors")
    assert meta.architecture == architecture_of(model) == architecture_of(loaded)


def header(**changes: Any) -> Any:
    """The header of a yolo26n of two classes, changed; what a Meta cannot hold is written too."""
    meta = Meta("yolo26n", ("a", "b"), 64, (8, 16, 32), "fp32")
    return replace(meta, **changes)


def test_other_classes_keep_all_widths_but_their_own() -> None:
    own = architecture_of(build_wide("yolo26n", 2, 80))
    other = with_classes(own, 7)
    assert build_from(other).num_classes == 7
    changed = {path for path, width in own.widths.items() if other.widths[path] != width}
    assert changed == {path for path in own.widths if path.endswith(".4") and "classes" in path}
    half = replace(
        own,
        branches=("one_to_one",),
        widths={k: v for k, v in own.widths.items() if ".one_to_many." not in k},
    )
    assert with_classes(half, 7) == other  # the branch that was missing is as wide as its twin


STEM = "backbone.stem.conv"
HOSTILE: dict[str, tuple[Any, str]] = {
    "a huge width": ({"widths": {STEM: [3, 10**9, 1]}}, f"from 1 to {MAX_CHANNELS}"),
    "widths that do not meet": ({"widths": {STEM: [3, 24, 1]}}, "widths do not fit each other"),
    "no channel": ({"widths": {STEM: [3, 0, 1]}}, "expected a whole number"),
    "a float": ({"widths": {STEM: [3, 16.0, 1]}}, "float"),
    "a truth value": ({"widths": {STEM: [True, 16, 1]}}, "bool"),
    "groups that do not divide": ({"widths": {STEM: [3, 16, 2]}}, "do not divide"),
    "an unknown convolution": ({"widths": {"backbone.x": [3, 16, 1]}}, "differ in backbone.x"),
    "a list for a mapping": ({"widths": []}, "widths is not an object"),
    "an unknown branch": ({"branches": ["one_to_one", "x"]}, "differ in x"),
    "no branch": ({"branches": []}, "branches is not a list"),
    "an unknown family": ({"family": "yolo99"}, "yolo99n of 2 classes, the header says yolo26n"),
    "other classes": ({"num_classes": 3}, "of 3 classes"),
    "too many classes": ({"num_classes": MAX_CLASSES + 1}, f"from 1 to {MAX_CLASSES}"),
    "another reg_max": ({"reg_max": 16}, "expected 2 and 64"),
    "a huge reg_max": ({"reg_max": 10**6}, "expected a whole number"),
    "a long text": ({"size": "n" * 10**6}, "text of up to"),
    "a line break": ({"family": "yolo26\n"}, "text of up to"),
    "no object": (3, "not an object"),
    "heads that do not fit": ({"heads": {"backbone.attention.chain.0.attention": 7}}, "fit"),
}


@each("case", HOSTILE)
def test_a_hostile_architecture_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, said = HOSTILE[case]
    with torch.device("meta"):
        plain: Any = json.loads(json.dumps(asdict(architecture_of(build("yolo26n", 2)))))
    if isinstance(change, dict):
        for name, value in change.items():
            merged = isinstance(value, dict) and isinstance(plain[name], dict)
            plain[name] = {**plain[name], **value} if merged else value
    else:
        plain = change
    refused(tmp_path, {**asdict(header()), "architecture": plain}, said)


@each(
    ("change", "said"),
    [
        ({"class_names": "ab"}, "class_names"),
        ({"class_names": [1, 2]}, "class_names"),
        ({"strides": [8.5]}, "strides"),
        ({"image_size": "64"}, "image_size"),
        ({"preprocess": []}, "preprocess"),
        ({"model": "yolo99n", "architecture": None}, "no model"),
    ],
)
def test_a_header_of_other_types_is_refused_in_one_line(change, said, tmp_path: Path) -> None:
    refused(tmp_path, {**asdict(header()), **change}, said)


def test_a_deeply_nested_header_is_refused_in_one_line(tmp_path: Path) -> None:
    refused(tmp_path, None, "not JSON", text='{"a":' + "[" * 100_000)


def refused(folder: Path, values: Any, said: str, text: str | None = None) -> None:
    path = folder / "hostile.safetensors"
    digest = hashlib.sha256(b"x" + bytes(4)).hexdigest()
    facts = {"det": text or json.dumps(values), "sha256": digest}
    save_file({"x": torch.zeros(1)}, path, facts)
    with pytest.raises(CheckpointError) as caught:
        restore(path)
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message and len(message) < 600


def test_a_model_that_is_too_large_is_not_built() -> None:
    with torch.device("meta"):
        own = architecture_of(build("yolov8n", 2))
    huge = {
        path: (c_in if c_in == 3 else MAX_CHANNELS, MAX_CHANNELS, groups)
        for path, (c_in, c_out, groups) in copy.deepcopy(own.widths).items()
    }
    with pytest.raises(ArchitectureError, match="the limit is 500000000"):
        build_from(replace(own, widths=huge))
