"""Importers: every size of every family lands, whole and with its shapes, in our model of it.

Checkpoints are made from our models, by names written down the way the other projects write them
(``rigs/foreign_files.py``); the names are compared with their published lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_files import State, pickled_model, renamed, renamed_state, save
from parity import published_keys
from rows import each
from widths import build_wide
from yolodet.detector.models.build import architecture_from, build
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE
from yolodet.weights.importers import ImportFailed, import_checkpoint, ultralytics, yolov9, yolox
from yolodet.weights.importers.errors import Name
from yolodet.weights.importers.rebuild import Stub

IMPORTERS = {"yolo26": ultralytics, "yolo11": ultralytics, "yolov8": ultralytics}
IMPORTERS |= {"yolov9": yolov9, "yolox_": yolox}
# Entries of the published state dicts, less the constants of the distribution over distances.
ENTRIES = {
    **{"yolo26n": 708, "yolo26s": 708, "yolo26m": 768, "yolo26l": 1092, "yolo26x": 1092},
    **{"yolo11n": 498, "yolo11s": 498, "yolo11m": 648, "yolo11l": 1014, "yolo11x": 1014},
    **{"yolov8n": 354, "yolov8s": 354, "yolov8m": 474, "yolov8l": 594, "yolov8x": 594},
    **{"yolov9t": 1770, "yolov9s": 1770, "yolov9m": 1410, "yolov9c": 1458},
    **{"yolox_nano": 642, "yolox_tiny": 462, "yolox_s": 462, "yolox_m": 606, "yolox_l": 750},
    "yolox_x": 894,
}


@each(("name", "num_classes"), [*((name, 3) for name in ENTRIES), ("yolo26n", 80)])
def test_every_size_lands_whole_in_the_model_of_its_name(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        ours = build(name, num_classes).state_dict()
        theirs = renamed_state(name, ours)
        importer = IMPORTERS[name[:6]]
        assert len(theirs) == ENTRIES[name] and importer.matches(theirs)
        imported = importer.convert(theirs)
        assert (imported.name, imported.num_classes) == (name, num_classes)
        fresh = build(imported.name, imported.num_classes)
        fresh.load_state_dict(imported.tensors)  # every name and every shape
    assert all(imported.tensors[key] is ours[key] for key in ours)


@each("name", published_keys())
def test_the_names_used_here_are_the_published_ones(name: str) -> None:
    published = {
        key: tuple(shape)
        for key, shape in published_keys()[name]
        if ".dfl." not in key and "anc2vec" not in key
    }
    with torch.device("meta"):
        theirs = renamed(build_wide(name, 80, 128) if name == "yolov9t" else build(name, 80))
    assert {key: tuple(value.shape) for key, value in theirs.items()} == published


def test_averaged_or_raw_weights_are_taken_as_asked(tmp_path: Path) -> None:
    raw, ema = (renamed(build("yolo26n", 2).half()) for _ in range(2))
    names = {0: "cat", 1: "dog"}
    models = {"model": pickled_model(raw, names), "ema": pickled_model(ema, names)}
    both = save(tmp_path / "both.pt", **models, version="8.4.190", train_args={"epochs": 3})
    key = "backbone.stem.conv.weight"
    for which, state in (("ema", ema), ("raw", raw)):
        imported = import_checkpoint(both, which)
        assert torch.equal(imported.tensors[key], state["model.0.conv.weight"].float())
        assert imported.class_names == ("cat", "dog") and imported.license == "AGPL-3.0"
        assert imported.provenance == {
            "project": "Ultralytics", "version": "8.4.190", "file": "both.pt"
        }  # fmt: skip
    only = save(tmp_path / "only.pt", model=pickled_model(raw, ["cat", "dog"]), ema=None)
    assert torch.equal(import_checkpoint(only).tensors[key], raw["model.0.conv.weight"].float())
    with pytest.raises(ValueError, match="'ema' or 'raw'"):
        import_checkpoint(only, "best")


def test_a_fused_file_gives_the_same_outputs_in_a_model_that_can_train(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = build("yolo26n", 4)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = detector.eval()(images, (ONE_TO_ONE,))[ONE_TO_ONE]
        fused = renamed(detector.fuse(branches=(ONE_TO_ONE,)))
        assert not any(".bn." in key for key in fused)
        file = save(tmp_path / "fused.pt", model=pickled_model(fused, list("abcd")))
        imported = import_checkpoint(file)
        assert len(imported.notes) == 2 and "one_to_many" in imported.notes[1]
        fresh = build(imported.name, 4).eval()
        missing, unexpected = fresh.load_state_dict(imported.tensors, strict=False)
        assert not unexpected and all(key.startswith("head.one_to_many.") for key in missing)
        found = fresh(images, (ONE_TO_ONE,))[ONE_TO_ONE]
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.distances, expected.distances, atol=1e-4, rtol=0)


def test_a_class_tower_of_another_width_is_kept() -> None:
    with torch.device("meta"):
        theirs = renamed(build_wide("yolo26n", 2, 80))
    imported = ultralytics.convert(theirs)
    assert (imported.num_classes, imported.class_names) == (2, None)
    widths = architecture_from(imported.name, 2, imported.tensors).widths
    assert widths["head.one_to_one.classes.2.4"] == (80, 2, 1)


def meta_state(name: str) -> State:
    with torch.device("meta"):
        return renamed(build(name, 2))


def broken(change: dict[str, str]) -> State:
    """A YOLO26 state with parts renamed."""
    state = meta_state("yolo26n")
    for old, new in change.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


@each(
    ("change", "message"),
    [
        ({"model.22.": "model.29."}, "model.29|tensor 29"),
        ({".attn.qkv.": ".attn.kv."}, "attn.kv"),
        ({"cv2.2.": "cv2.3."}, "cv2.3"),
        ({"model.23.": "model.24."}, "neither YOLO26"),
        ({"model.0.conv.weight": "model.0.conv.extra"}, "none of the sizes"),
    ],
)
def test_a_changed_graph_is_refused_with_the_tensor(change: dict[str, str], message: str) -> None:
    with pytest.raises(ImportFailed, match=message):
        ultralytics.convert(broken(change))


def test_other_tasks_and_wrong_names_are_refused(tmp_path: Path) -> None:
    state = renamed(build("yolo26n", 2))
    file = save(tmp_path / "seg.pt", model=pickled_model(state, ["a", "b"], "SegmentationModel"))
    with pytest.raises(ImportFailed, match=r"seg\.pt: .*SegmentationModel: only detection"):
        import_checkpoint(file)
    file = save(tmp_path / "names.pt", model=pickled_model(state, ["a", "b", "c"]))
    with pytest.raises(ImportFailed, match="names 3 classes but its head has 2"):
        import_checkpoint(file)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("yolov9t", "22.heads.0.class_conv.2.weight"),
        ("yolox_nano", "head.cls_preds.0.weight"),
        ("yolo26n", "model.0.conv.weight"),
    ],
)
def test_a_missing_tensor_is_named(name: str, missing: str, tmp_path: Path) -> None:
    state = renamed(build(name, 2))
    del state[missing]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ImportFailed, match=rf"a\.pt: .*({missing}|none of the sizes)"):
        import_checkpoint(tmp_path / "a.pt")


def test_modules_nested_without_end_are_refused() -> None:
    stub = Stub(Name("ultralytics.nn.tasks", "DetectionModel"))
    stub.state["_modules"] = {"a": stub}
    with pytest.raises(ImportFailed, match="more than 32 deep"):
        list(ultralytics.state_tensors(stub))


@pytest.mark.parametrize("prefix", ["", "model.", "model.model."])
def test_yolov9_files_with_any_prefix_and_without_the_auxiliary_branch(prefix: str) -> None:
    state = {prefix + key: value for key, value in meta_state("yolov9s").items()}
    lightning = {"state_dict": state, "epoch": 3}
    content: dict[str, Any] = lightning if prefix == "model.model." else state
    assert yolov9.matches(content)
    assert len(yolov9.convert(content).tensors) == 1770
    small = {key: v for key, v in meta_state("yolov9s").items() if int(key.split(".")[0]) < 23}
    imported = yolov9.convert(small)
    assert imported.notes and not any(AUXILIARY in key for key in imported.tensors)


def test_a_lightning_checkpoint_has_averaged_and_raw_weights() -> None:
    raw, ema = meta_state("yolov9s"), meta_state("yolov9s")
    state = {f"model.model.{key}": value for key, value in raw.items()}
    state |= {f"ema.model.{key}": value for key, value in ema.items()}
    for which, expected in (("raw", raw), ("ema", ema)):
        tensors = yolov9.convert({"state_dict": state}, which).tensors
        assert tensors["backbone.stem.conv.weight"] is expected["0.conv.weight"]


def test_licenses_are_those_of_the_projects() -> None:
    licenses = {n: IMPORTERS[n[:6]].convert(meta_state(n)).license for n in ("yolov9t", "yolox_s")}
    assert licenses == {"yolov9t": "MIT", "yolox_s": "Apache-2.0"}


def test_yolox_keeps_the_preprocessing_it_was_trained_on() -> None:
    imported = yolox.convert({"model": meta_state("yolox_tiny")})
    assert imported.preprocess["channels"] == "bgr" and imported.preprocess["range"] == [0, 255]
    with torch.device("meta"):
        assert build("yolox_tiny", 2).branches == (ONE_TO_MANY,)
