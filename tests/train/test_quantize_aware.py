"""Quantization-aware training: simulation, run, checkpoint, and the files made of it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from exports import enliven, make_images, needs_onnx
from forked_runs import Killer
from tiny import make_trainer, rows_of, same, saved, use_tiny_detector, write_tiny_data
from yolodet.cli import main
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.build import architecture_of, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.formats import FORMATS, missing_packages
from yolodet.detector.quantization import rounding
from yolodet.detector.quantization.calibrate import calibrate
from yolodet.detector.quantization.rounding import (
    Ranges,
    RoundedConv2d,
    Rounding,
    grid_of,
    steps_of,
)
from yolodet.detector.quantization.simulate import plain_copy, ranges_of, simulate
from yolodet.detector.run.folder import BEST
from yolodet.detector.train.evaluator import CocoEvaluator
from yolodet.weights.checkpoint import load_weights, read_meta, save_weights

FAMILIES = ["yolo26n", "yolo26n-p2", "yolo11n", "yolov8n", "yolov9t", "yolox_nano"]


def simulated(name: str, images: torch.Tensor) -> tuple[Detector, Detector]:
    """A lively float detector of a family, and the same with measured ranges."""
    torch.manual_seed(0)
    model = enliven(build(name, 3)).eval()
    torch.manual_seed(0)
    rounded = simulate(enliven(build(name, 3)).eval())
    calibrate(rounded, [images])
    return model, rounded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_that_of_torch(dtype: torch.dtype) -> None:
    """Values and gradients of activations, against torch's own (slow) simulation."""
    ranges = Ranges(1.0, 2)
    ranges.ends[1] = torch.tensor([-1.3, 4.1])
    step, low, _ = grid_of(*ranges.ends[1].tolist())
    x = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    mine, theirs = x.clone().requires_grad_(), x.float().requires_grad_()
    found = Rounding(ranges, 1)(mine)
    wanted = torch.fake_quantize_per_tensor_affine(theirs, step, int(-low), 0, 255)
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (found * slope).sum().backward()
    (wanted * slope).sum().backward()
    assert mine.grad is not None and theirs.grad is not None
    if dtype == torch.float32:
        torch.testing.assert_close(found, wanted)
    else:  # a value may fall to the next step where bf16 does not resolve half of one
        assert float((found.float() - wanted).detach().abs().max()) <= 1.5 * step
    assert bool(((mine.grad == 0) == (theirs.grad == 0)).float().mean() > 0.99)


def test_weights_are_rounded_per_channel_as_by_torch() -> None:
    conv = torch.nn.Conv2d(3, 5, 3)
    weight = conv.weight.detach()
    image = torch.rand(1, 3, 8, 8)
    zeros = torch.zeros(5, dtype=torch.int32)
    wanted = torch.fake_quantize_per_channel_affine(weight, steps_of(weight), zeros, 0, -127, 127)
    found = RoundedConv2d.of(conv, Ranges(1.0))(image)
    torch.testing.assert_close(found, torch.conv2d(image, wanted, conv.bias))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_of_every_family_reads_steps(name: str) -> None:
    """Each input is a multiple of some step; without rounding it is the float model."""
    images = make_images(2, (64, 64))
    model, rounded = simulated(name, images)
    assert architecture_of(rounded) == architecture_of(model)
    ranges = ranges_of(rounded)
    assert ranges is not None
    grids = torch.tensor([grid_of(*ends) for ends in ranges.ends.tolist()]).double()
    steps, wrong, seen = grids[:, 0], [], 0

    def look(module: Any, inputs: Any) -> None:
        nonlocal seen
        seen += 1
        x = inputs[0] if module.entry is None else module.entry(inputs[0])
        values = x.double().flatten()[::7]
        off = (values / steps[:, None] - (values / steps[:, None]).round()).abs().amax(1)
        if float(off.min()) > 1e-2:
            wrong.append(module)

    for module in rounded.modules():
        if isinstance(module, RoundedConv2d):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        wanted, plain = model(images), plain_copy(rounded)(images)
        rounded(images)
    assert not wrong and seen == sum(isinstance(m, torch.nn.Conv2d) for m in rounded.modules())
    for branch, each in wanted.items():
        torch.testing.assert_close(plain[branch].logits, each.logits, rtol=5e-3, atol=5e-3)


# -- runs ------------------------------------------------------------------------------------------

USUAL = ("imgsz=64", "batch=3", "nbs=3", "workers=0", "device=cpu", "plots=False", "cache=none",
         "report=False", "amp=False")  # fmt: skip


@pytest.fixture
def floats(tmp_path: Path, tiny_models: None) -> tuple[Path, Path]:
    return train_floats(tmp_path)


def train_floats(tmp_path: Path) -> tuple[Path, Path]:
    """The data, and the checkpoint of a float training of 20 epochs that was stopped after one."""
    data = write_tiny_data(tmp_path / "data", train=12, val=3)
    typed = (f"data={data}", f"project={tmp_path}", "name=float", "epochs=1", *USUAL)
    assert main(["train", "model=yolo26n", *typed]) == 0
    path = tmp_path / "float" / BEST
    tensors, meta = load_weights(path)
    save_weights(path, tensors, replace(meta, config={**meta.config, "epochs": 20}))
    return data, path


@pytest.fixture(scope="module")
def quantized_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data, and the run folder of a quantization-aware training that nobody changes."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_detector(patch)
        data, path = train_floats(tmp_path_factory.mktemp("quantized"))
        return data, quantized(data, path)


def quantized(data: Path, start: Path, name: str = "qat", *more: str) -> Path:
    """The run folder of a quantization-aware training."""
    project = start.parents[2]
    typed = (f"model={start}", f"data={data}", f"project={project}", f"name={name}", *USUAL)
    assert main(["train", *typed, "qat=int8", *more]) == 0
    return project / name


def file_in(name: str, path: str) -> Any:
    """A format and its 8-bit file, skipped where it cannot be written."""
    row = FORMATS[name]
    missing = pytest.mark.skipif(bool(missing_packages(row)), reason=f"needs {row.packages}")
    return pytest.param(name, path, marks=missing, id=name)


@pytest.mark.parametrize(
    ("name", "path"),
    [file_in("onnx", "best-int8.onnx"), file_in("torch_export", "best-int8.pt2"),
     file_in("openvino", "best-int8_openvino_model"), file_in("tflite", "best-int8.tflite")],
)  # fmt: skip
def test_the_checkpoint_keeps_its_ranges_and_needs_no_data_to_be_exported(
    quantized_run: tuple[Path, Path], tiny_models: None, name: str, path: str
) -> None:
    """The scores of the file are those of the simulation, for its twenty best."""
    from yolodet.detector.export.exported import open_exported

    data, run = quantized_run
    model, meta = restore(run / BEST)
    ranges = ranges_of(model)
    assert meta.quantization == "int8" and meta.schema == 3 and ranges is not None
    assert meta.config["epochs"] == 2 and len(rows_of(run)) == 2  # a tenth of 20
    args = yaml.safe_load((run / "args.yaml").read_text())
    assert (args["lr0"], args["lr_transferred"]) == (pytest.approx(0.002), 0.01)
    assert float(ranges.ends[1:].std()) > 0 and ranges.ends[0].tolist() == [0, 1]
    assert main(["val", f"model={run / BEST}", f"data={data}", "verbose=False"]) == 0
    assert main(["export", f"model={run / BEST}", f"format={name}", "int8=True"]) == 0
    exported = open_exported(run / "weights" / path, torch.device("cpu"))
    images = make_images(1, (64, 64))
    with torch.inference_mode():
        found = exported(images)["one_to_one"].logits.sigmoid().amax(-1).sort().values
        wanted = model.eval()(images)["one_to_one"].logits.sigmoid().amax(-1).sort().values
    best = wanted[:, -found.shape[1] :]
    assert float((found[:, -20:] - best[:, -20:]).abs().max()) < 0.01


@needs_onnx
def test_every_layer_of_the_file_is_in_8_bits(
    quantized_run: tuple[Path, Path], tiny_models: None
) -> None:
    import onnx

    file = quantized_run[1] / "weights" / "best-int8.onnx"
    if not file.exists():  # the test above writes it
        assert main(["export", f"model={quantized_run[1] / BEST}", "format=onnx", "int8=True"]) == 0
    graph = onnx.load(file).graph
    producer = {name: node.op_type for node in graph.node for name in node.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convs) > 8
    for node in convs:
        assert [producer[name] for name in node.input[:2]] == ["DequantizeLinear"] * 2
    gates = [node for node in graph.node if node.op_type == "Sigmoid"]
    read = [producer.get(node.input[0]) for node in gates]
    assert read.count("DequantizeLinear") >= 8  # SiLU is in integers; the rest is of scores


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_a_killed_run_goes_on_bit_for_bit(
    floats: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ranges that move: their step counter and their moving averages are part of the state."""
    data, start = floats
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    killer = Killer()
    words = (f"model={start}", f"data={data}", "qat=int8", "epochs=5", "save_steps=2",
             "exist_ok=True", "name=run", *USUAL)  # fmt: skip

    def begin(project: Path, **job: Any) -> dict[str, Any]:
        project.mkdir()
        return killer.run("train", f"project={project}", *words, log=project / "talk.txt", **job)

    whole, project = begin(tmp_path / "whole"), tmp_path / "killed"
    assert whole["code"] == 0, (tmp_path / "whole" / "talk.txt").read_text()
    assert begin(project, event=int(0.7 * whole["events"]))["code"] == -signal.SIGKILL
    typed = f"resume={project / 'run'}"
    assert killer.run("train", typed, log=project / "talk.txt")["code"] == 0
    killer.close()
    one, other = saved(tmp_path / "whole" / "run"), saved(project / "run")
    assert same(one, other) and int(one["model"]["ranges.steps"]) == 20
    assert same(load_weights(tmp_path / "whole" / "run" / BEST)[0],
                load_weights(project / "run" / BEST)[0])  # fmt: skip


def test_a_run_in_bf16_is_validated_in_float32_as_its_file_is(
    floats: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums that bf16 has rounded become other integers."""
    data, start = floats
    used = []

    def measure(self: CocoEvaluator, model: Any, precision: Any, *rest: Any) -> Any:
        used.append(precision.name)
        return plain(self, model, precision, *rest)

    plain = CocoEvaluator.__call__
    monkeypatch.setattr(CocoEvaluator, "__call__", measure)
    words = [word for word in USUAL if word != "amp=False"]
    words += ["qat=int8", "amp=bf16", "amp_force=True", "amp_check=False"]
    typed = (f"model={start}", f"data={data}", f"project={tmp_path}", "name=qat", *words)
    assert main(["train", *typed]) == 0
    results = json.loads((tmp_path / "qat" / "results.json").read_text())
    assert results["precision"]["name"] == "bf16" and used == ["fp32"] * 3  # two epochs, the best
    assert [row["precision"] for row in rows_of(tmp_path / "qat")] == ["bf16", "bf16"]
    assert load_weights(tmp_path / "qat" / BEST)[1].precision == "fp32"  # as `det val` will measure


def test_ranges_follow_the_values_and_then_stay() -> None:
    ranges = Ranges(1.0, 2)
    ranges.until, place = 15, Rounding(ranges, 1)
    moved = []
    for _ in range(30):
        ranges.begin()
        place(torch.tensor([-3.0, 5.0]))
        ranges.end()
        moved.append(ranges.ends[1].tolist())
    np.testing.assert_allclose(moved[0], [-1.2, 1.4], rtol=1e-6)  # a tenth of the way
    np.testing.assert_allclose(moved[10], [-1.38, 1.76], rtol=1e-6)
    assert moved[9] == moved[0] and moved[29] == moved[10]  # looked at every 10 steps, until 15


def test_ranges_count_optimizer_steps(
    floats: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in micro-batches moves the ranges as the whole batch does, and for as many steps; an
    accumulated batch counts once.  The weights stay, for the loss of a batch is not the sum of
    those of its parts."""
    data, start = floats
    monkeypatch.setattr(rounding, "EVERY", 1)
    words = {"model": str(start), "qat": "int8", "batch": 6, "nbs": 6, "epochs": 4, "lr0": 1e-9}
    found = {}
    for name, more in {"whole": {}, "micro": {"micro_batch": 2}, "nominal": {"batch": 3}}.items():
        trainer = make_trainer(data, start.parents[2] / name, **{**words, **more})
        ranges = ranges_of(trainer.run.model)
        assert ranges is not None and ranges.until == 6  # of 8 steps
        begin = ranges.ends.clone()
        trainer.writer.active = False
        trainer.fit()
        assert int(ranges.steps) == trainer.at.updates == 8
        assert float((ranges.ends - begin).abs().max()) > 1e-3
        found[name] = ranges.ends
    torch.testing.assert_close(found["micro"], found["whole"], rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_leaves_no_look_at_the_values(
    floats: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pass saw that did not fit is forgotten: the run is as one with micro-batches."""
    data, start = floats
    monkeypatch.setattr(rounding, "EVERY", 1)
    words = {"model": str(start), "qat": "int8", "batch": 6, "nbs": 6, "epochs": 1}
    small = make_trainer(data, start.parents[2] / "small", **words, micro_batch=3)
    large = make_trainer(data, start.parents[2] / "large", **words)

    def hook(_: Any, __: Any, output: torch.Tensor) -> None:
        if len(output) > 3 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    large.run.model.backbone.stage5.register_forward_hook(hook)
    for trainer in (small, large):
        trainer.writer.active = False
        trainer.fit()
    one, other = (ranges_of(trainer.run.model) for trainer in (small, large))
    assert one is not None and other is not None and int(other.steps) == 2
    assert torch.equal(one.ends, other.ends)


def test_with_a_time_budget_ranges_stay_in_the_last_quarter_of_what_fits(
    floats: tuple[Path, Path],
) -> None:
    data, start = floats
    words = {"model": str(start), "qat": "int8", "batch": 3, "nbs": 6, "epochs": 4, "time": 1.0}
    trainer = make_trainer(data, start.parents[2] / "time", **words)
    ranges = ranges_of(trainer.run.model)
    assert ranges is not None and ranges.until == 6  # of 4 epochs of 2 steps
    trainer._use_epochs(20)
    assert ranges.until == 30


def refused(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    assert main(list(typed)) in (1, 2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("det: error: ")
    return lines[-1].removeprefix("det: error: ")


def test_what_cannot_be_is_refused_in_one_line(
    floats: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, start = floats
    train = ("train", f"data={data}", f"project={start.parents[2] / 'none'}", *USUAL, "qat=int8")
    said = refused(capsys, *train, "model=yolo26n")
    assert said.startswith("qat=int8 starts from trained weights, and model=yolo26n has none")
    assert "compile=True is not for qat=int8" in refused(
        capsys, *train, f"model={start}", "compile=True"
    )
    other = write_tiny_data(start.parents[2] / "other", train=3, val=2)
    other.write_text(other.read_text().replace("traffic light", "lamp"))
    said = refused(capsys, "train", f"data={other}", *train[2:], f"model={start}")
    assert "has other classes than" in said
    best = quantized(data, start) / BEST
    assert f"model={best} was trained with qat= already" in refused(capsys, *train, f"model={best}")
    said = refused(capsys, *train[:-1], f"model={best}")
    assert "start from the float checkpoint" in said
    assert "add int8=True" in refused(capsys, "export", f"model={best}", "format=onnx")
    assert "keeps its ranges" in refused(
        capsys, "export", f"model={best}", "format=onnx", "int8=True", "calibration=entropy"
    )
    assert not (start.parents[2] / "none").exists()


def test_ranges_and_headers_of_a_hostile_file_are_checked(
    floats: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    best = quantized(*floats) / BEST
    tensors, meta = load_weights(best)
    for ends in ([3.0, 1.0], [0.0, 0.0], [-1e30, 1e30], [float("nan"), 1.0]):
        bad = {**tensors, "ranges.ends": tensors["ranges.ends"].clone()}
        bad["ranges.ends"][2] = torch.tensor(ends)
        save_weights(best, bad, meta)
        said = refused(capsys, "val", f"model={best}", f"data={floats[0]}")
        assert "range 2 of its 8-bit activations" in said
    save_weights(best, tensors, replace(meta, quantization="int4"))
    assert "quantization is 'int4', not int8" in refused(capsys, "val", f"model={best}")
    save_weights(best, tensors, replace(meta, quantization=None))
    assert "does not hold a complete yolo26n" in refused(
        capsys, "val", f"model={best}", f"data={floats[0]}"
    )
    assert read_meta(floats[1]).quantization is None
