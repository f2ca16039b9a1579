"""``det weights convert model.onnx``: the same function as a checkpoint that can be trained."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import (
    CLASS_NAMES,
    enliven,
    lively_detector,
    make_images,
    make_meta,
    needs_onnx,
    run_export,
)  # fmt: skip
from tiny import keep_threads, use_tiny_detector, write_tiny_data
from torch import Tensor, nn
from yolodet.cli import main
from yolodet.detector.checkpoints.recognize import pair, trace
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.checkpoints.statistics import unmeasured_norms
from yolodet.detector.models.build import architecture_of, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import decode_boxes

SIDE = 64
TERMS = ("license=Apache-2.0", "origin=https://example.org/nano.onnx")

pytestmark = needs_onnx


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    keep_threads(monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def nano() -> Detector:
    """A YOLOX with lively norms and 5 classes, and boxes of some strides."""
    model = enliven(build("yolox_nano", 5)).eval()
    with torch.no_grad():
        for tower in model.head.one_to_many.boxes:
            tower[-1].weight.mul_(0.02)
    return model


@pytest.fixture(scope="module")
def upstream(nano: Detector, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """It as Megvii's script writes it, by whether its norms were folded."""
    upstream_onnx = pytest.importorskip("upstream_onnx")
    path = tmp_path_factory.mktemp("upstream") / "nano.onnx"
    files = {}
    for folded in (True, False):
        upstream_onnx.write_upstream(nano, path, SIDE, folded=folded)
        files[folded] = path.read_bytes()
    return files


def their_rows(path: Path, images: Tensor) -> Tensor:
    """Boxes (x1, y1, x2, y2) and scores from the file, run as its users do: BGR in 0..255."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.flip(1).float().numpy()})
    rows = torch.from_numpy(found)
    center, size, objectness, classes = rows.split((2, 2, 1, rows.shape[-1] - 5), -1)
    return torch.cat((center - size / 2, center + size / 2, objectness * classes), -1)


def our_rows(model: Detector, images: Tensor) -> Tensor:
    with torch.no_grad():
        (found,) = model.eval()(images).values()
    return torch.cat((decode_boxes(found), found.logits.sigmoid()), -1)


@pytest.mark.parametrize("folded", [True, False])
def test_a_file_in_the_layout_of_its_project_gives_the_same_detections(
    folded: bool, upstream: dict[bool, bytes], nano: Detector, folder: Path, capsys
) -> None:
    """With its license and origin; folded norms are measured on the images of data=."""
    Path("nano.onnx").write_bytes(upstream[folded])
    data = write_tiny_data(folder / "data")
    words = ["weights", "convert", "nano.onnx", "nano.safetensors", *TERMS, f"data={data}"]
    assert main(words) == 0
    model, meta = restore(Path("nano.safetensors"))
    images = make_images(2, (SIDE, SIDE), seed=9)
    theirs = torch.cat([their_rows(Path("nano.onnx"), image[None]) for image in images])
    assert theirs[..., 4:].std() > 0.01
    ours = our_rows(model, images)
    assert (ours - theirs)[..., :4].abs().max() < 0.02  # of a pixel
    assert (ours - theirs)[..., 4:].abs().max() < 1e-3
    assert (meta.model, meta.num_classes, meta.image_size) == ("yolox_nano", 5, SIDE)
    assert meta.license == "Apache-2.0" and meta.provenance.startswith("https://example.org/nano")
    assert meta.preprocess["channels"] == "bgr" and "sha256" in meta.provenance
    assert not unmeasured_norms(model, model.state_dict())
    assert ("104 batch norms measured on 6 images" in meta.provenance) == folded
    if not folded:  # they are those that training left
        buffers, original = dict(model.named_buffers()), dict(nano.named_buffers())
        for name in original:
            if name.endswith("running_mean"):
                torch.testing.assert_close(buffers[name], original[name])


def test_a_file_of_det_keeps_what_it_says_of_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Class names, license and widths that no model has by itself."""
    use_tiny_detector(monkeypatch)
    model = lively_detector()
    about = make_meta(architecture=architecture_of(model), license="MIT")
    run_export(folder, model, about, format="onnx", raw=True)
    words = ["weights", "convert", "best.onnx", "out.safetensors"]
    assert main([*words, "license=MIT"]) == 2
    assert "license= has no effect" in capsys.readouterr().err
    assert main(words) == 0
    assert "det train measures them" in " ".join(capsys.readouterr().err.split())
    back, meta = restore(Path("out.safetensors"))
    assert meta.class_names == CLASS_NAMES and meta.license == "MIT"
    assert meta.architecture.widths.items() < about.architecture.widths.items()  # one branch
    assert "made by a <test>" in meta.provenance and "best.onnx, sha256" in meta.provenance
    images = make_images(2, (SIDE, SIDE), seed=9)
    (branch,) = back.branches
    with torch.no_grad():
        ours, theirs = back.eval()(images)[branch], model.eval()(images)[branch]
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decode_boxes(ours), decode_boxes(theirs), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["yolox_nano", "yolov8n", "yolo11n", "yolo26n", "yolov9t"])
def test_convolutions_are_found_in_any_order(name: str) -> None:
    with torch.device("meta"):
        model = build(name, 7)
    model.drop(model.branches[1:])
    ours = trace(model.eval())
    assert len(ours) == sum(isinstance(m, nn.Conv2d) for m in model.modules())
    order = random.Random(0).sample(range(len(ours)), len(ours))
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    theirs = [
        type(ours[old])(
            ours[old].signature, frozenset(place[b] for b in ours[old].before), str(old)
        )
        for old in order
    ]
    assert pair(ours, theirs) == {old: place[old] for old in range(len(ours))}


def test_twins_and_other_graphs_are_not_guessed() -> None:
    with torch.device("meta"):
        both = trace(build("yolo26n", 7).eval())
    assert pair(both, both) == {}  # two branches that nothing tells apart
    with torch.device("meta"):
        nano, tiny = (trace(build(name, 7).eval()) for name in ("yolox_nano", "yolox_tiny"))
    assert pair(nano, tiny) == {}
    moved = [*nano[:-1], type(nano[0])(nano[-1].signature, nano[0].before, nano[-1].path)]
    assert pair(nano, moved) == {}


def changed(data: bytes, how: str) -> bytes:
    """The file, quantized, cut, with another activation, or cut off."""
    import onnx

    network = onnx.load_from_string(data)
    graph = network.graph
    if how == "activation":
        node = next(node for node in graph.node if node.op_type == "Sigmoid")
        node.op_type = "Tanh"
    elif how == "external":
        graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    elif how == "whole numbers":
        tensor = next(t for t in graph.initializer if len(t.dims) == 4)
        values = onnx.numpy_helper.to_array(tensor).astype(np.int8)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    elif how == "computed":
        node = next(node for node in graph.node if node.op_type == "Conv")
        node.input[1] = graph.input[0].name
    elif how == "shorter":
        node = next(node for node in graph.node if node.op_type == "Conv")
        del graph.node[:]
        graph.node.append(node)
    return network.SerializeToString()[: len(data) // 2 if how == "half" else None]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("activation", "has the layers of a yolox_nano and computes something else"),
        ("external", "lies in another file"),
        ("whole numbers", "does not consist of floating-point numbers"),
        ("computed", "is computed in the graph, as in a quantized file"),
        ("shorter", "has 1 convolutions that are not those of any model of det"),
        ("half", "is not a whole ONNX file"),
    ],
)
def test_what_is_no_model_of_det_is_refused_in_one_line(
    how: str, said: str, upstream: dict[bool, bytes], folder: Path, capsys
) -> None:
    Path("other.onnx").write_bytes(changed(upstream[True], how))
    assert main(["weights", "convert", "other.onnx", "out.safetensors", *TERMS]) == 1
    err = capsys.readouterr().err
    assert said in err and "other.onnx" in err and err.splitlines()[-1].startswith("det: error")
    assert not Path("out.safetensors").exists()


def test_the_license_is_asked_for(upstream: dict[bool, bytes], folder: Path, capsys) -> None:
    Path("nano.onnx").write_bytes(upstream[True])
    assert main(["weights", "convert", "nano.onnx", "out.safetensors"]) == 2
    assert "does not say its license: add license=" in capsys.readouterr().err
    assert main(["train", "model=nano.onnx", f"data={write_tiny_data(folder / 'data')}"]) == 2
    assert "det weights convert nano.onnx nano.safetensors" in capsys.readouterr().err
