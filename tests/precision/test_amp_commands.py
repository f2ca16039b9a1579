"""``det amp`` and ``det bench amp``: the reports, their instruments, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from rows import each
from tiny import tiny_detector, use_tiny_detector
from yolodet.cli import main
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.datasets.nouns import Batch
from yolodet.detector.examine import amp_report, contest
from yolodet.detector.examine.amp_bench import choose_names, train_interleaved
from yolodet.detector.examine.layers import FP16_MAX, LayerReport, LayerStats, layers_of
from yolodet.detector.options.errors import UsageError
from yolodet.detector.precision import sanity
from yolodet.detector.precision.probe import StageError
from yolodet.detector.precision.sanity import Trial
from yolodet.detector.run.hardware import DeviceTraits

ROOT = Path(__file__).parents[2]
SMALL = ("model=yolo26n", "device=cpu", "imgsz=64", "batch=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with drawn data, a cache of its own, and the outcomes of both commands."""
    folder = tmp_path_factory.mktemp("amp")
    write_shapes(folder / "drawn", train=4, val=2, size=64)
    return folder


@pytest.fixture(autouse=True)
def at_home(place, monkeypatch) -> None:
    monkeypatch.setenv("DET_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    use_tiny_detector(monkeypatch)


def run(capfd, *words: str) -> tuple[int, dict, str]:
    """Exit code, what --json printed, and stderr."""
    code = main([*words, "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out), err


DATA = "data=drawn/data.yaml"
DONE: dict[str, tuple[int, dict, str]] = {}
"""Outcomes of the commands that train or measure: each runs once."""


@pytest.fixture
def examined(capfd) -> tuple[int, dict, str]:
    if "amp" not in DONE:
        DONE["amp"] = run(capfd, "amp", DATA, *SMALL, "amp=bf16", "amp_force=True")
    return DONE["amp"]


@pytest.fixture
def compared(capfd) -> tuple[int, dict, str]:
    if "bench" not in DONE:
        words = (DATA, *SMALL, "steps=2", "rounds=2", "precisions=bf16,fp16")
        DONE["bench"] = run(capfd, "bench", "amp", *words)
    return DONE["bench"]


# ---------------------------------------------------------------------------- det amp


def test_amp_says_the_verdict_and_leaves_the_evidence(examined, place) -> None:
    code, content, err = examined
    result = content["result"]
    assert (code, content["ok"], content["command"]) == (0, True, "amp")
    assert "bf16 on cpu" in result["line"]
    for text in ("AMP sanity check", "Stages by themselves", "Layers; lost", "fp16 overflows"):
        assert text in err
    folder = place / result.pop("folder")
    assert folder.name == "amp"
    assert json.loads((folder / "amp.json").read_text()) == result
    assert (folder / "amp.png").stat().st_size > 10_000
    assert (folder / "args.yaml").exists()
    result["folder"] = str(folder)


def test_the_keys_of_amp_json_are_stable(examined) -> None:
    result = examined[1]["result"]
    assert set(result) == {
        "line", "passed", "precision", "rungs", "trials", "objections", "cached", "seconds",
        "model", "data", "image_size", "batch", "layer_batch", "hardware", "versions",
        "fp16_scale", "stages", "layers", "costliest", "overflow", "underflow", "folder",
    }  # fmt: skip
    for part in (*result["stages"], *result["layers"]):
        assert set(part) == {
            "name", "stage", "kind", "peak", "fp16_share", "gradient_peak", "lost", "lost_scaled",
            "ms", "errors", "saved", "unscaled_lost",
        }  # fmt: skip
        assert set(part["ms"]) == {"fp32", "bf16"}
        assert set(part["errors"]["bf16"]) == {"output", "cosine", "peak", "lost", "count"}
    assert all(min(stage["saved"].values()) > 0 for stage in result["stages"])


def test_what_each_stage_would_cost_in_fp32_is_said(examined) -> None:
    table = examined[2].partition("Each stage in fp32, the others")[2].partition("Layers;")[0]
    for name in tiny_detector(10).stages:
        (row,) = [line.split() for line in table.splitlines() if f" {name} " in f" {line} "]
        assert row[5].endswith("%") and abs(float(row[6])) < 100 and row[-1] == "passes"


def test_stages_and_layers_come_in_the_order_of_the_data_path(examined) -> None:
    result = examined[1]["result"]
    model = tiny_detector(10)
    assert [stage["name"] for stage in result["stages"]] == list(model.stages)
    assert [layer["name"] for layer in result["layers"]] == list(layers_of(model))


def test_layers_answer_within_what_their_formats_allow(examined) -> None:
    """bf16 keeps eight bits: a layer on equal inputs is off by about 2^-8, and not by nothing."""
    result = examined[1]["result"]
    for layer in result["layers"]:
        error = layer["errors"]["bf16"]
        assert 2.0**-12 < error["output"] < 0.02, layer["name"]
        assert error["cosine"] > 0.99
        assert layer["ms"]["fp32"] > 0 and layer["ms"]["bf16"] > 0
        assert layer["lost_scaled"] <= layer["lost"]
    peaks = {layer["name"]: layer["peak"] for layer in result["layers"]}
    for stage in result["stages"]:  # what runs in a stage runs in its layers or between them
        inside = [p for name, p in peaks.items() if f"{name}.".startswith(f"{stage['name']}.")]
        assert stage["peak"] >= max(inside)
    steepest = max(layer["gradient_peak"] for layer in result["layers"] + result["stages"])
    assert steepest * result["fp16_scale"] <= FP16_MAX


def report_of(result: dict) -> LayerReport:
    def layer(row: dict) -> LayerStats:
        errors = {name: StageError(**error) for name, error in row["errors"].items()}
        values = {name: value for name, value in row.items() if name != "fp16_share"}
        return LayerStats(**values | {"errors": errors})

    parts = ([layer(row) for row in result[kind]] for kind in ("stages", "layers"))
    return LayerReport(*parts, fp16_scale=result["fp16_scale"])


@pytest.fixture
def canned(examined, monkeypatch):
    """The measuring is replaced by what was measured before; problems by precision may be set."""
    result = examined[1]["result"]
    problems: dict[str, str] = {}

    class Check:
        def __init__(self, *parts) -> None: ...

        def run(self, names: dict[str, tuple[str, ...]]) -> list[Trial]:
            rows = [Trial(**row) for row in result["trials"]]
            made = [Trial(**asdict(rows[0]))]
            for name in names:
                new = {"precision": name, "stages": {}, "problem": problems.get(name)}
                made.append(Trial(**asdict(rows[1]) | new))
            return made

    class Probe:
        def __init__(self, *parts) -> None: ...

        def run(self) -> LayerReport:
            return report_of(result)

    monkeypatch.setattr(amp_report, "SanityCheck", Check)
    monkeypatch.setattr(amp_report, "LayerProbe", Probe)
    return problems


def test_a_named_precision_that_fails_is_reported_and_exits_with_1(canned, capfd) -> None:
    canned["bf16"] = "the loss differs by 9.0%"
    code, content, err = run(capfd, "amp", DATA, *SMALL, "amp=bf16", "amp_force=True")
    assert (code, content["result"]["passed"]) == (1, False)
    said = "bf16 fails the sanity check: the loss differs by 9.0%"
    assert content["result"]["line"].endswith(said)
    assert "Layers; lost" in err
    assert Path(content["result"]["folder"], "amp.json").exists()


def test_without_a_candidate_float32_is_examined_alone(canned, capfd) -> None:
    code, content, err = run(capfd, "amp", DATA, *SMALL, "amp=False")
    assert (code, content["result"]["trials"]) == (0, [])
    assert content["result"]["precision"]["name"] == "fp32"
    assert "AMP sanity check" not in err
    assert "Layers; lost" in err


def test_what_the_device_has_not_is_refused_unless_forced(canned, capfd, monkeypatch) -> None:
    plain_cpu = DeviceTraits("cpu", "AVX2")
    for module in ("precision.ladder", "examine.amp_report"):
        monkeypatch.setattr(f"yolodet.detector.{module}.traits_of", lambda device: plain_cpu)
    before = sorted(Path("runs").iterdir())
    code, content, _ = run(capfd, "amp", DATA, *SMALL, "amp=fp16")
    assert code == 2
    assert "no fp16 instructions" in content["error"]
    assert sorted(Path("runs").iterdir()) == before
    words = ("amp=fp16", "amp_force=True")
    monkeypatch.setattr(amp_report, "_print_stages", lambda *a: None)  # of bf16, as measured
    monkeypatch.setattr(amp_report, "_print_by_stage", lambda *a: None)
    monkeypatch.setattr(amp_report, "_print_layers", lambda *a: None)
    monkeypatch.setattr(amp_report, "summary_lines", lambda *a: [])
    monkeypatch.setattr(amp_report, "costliest", lambda *a: [])
    code, content, _ = run(capfd, "amp", DATA, *SMALL, *words)
    assert code == 0
    assert "twenty times slower" in content["warnings"][-1]
    code, content, _ = run(capfd, "amp", DATA, *SMALL)
    assert "no bf16 instructions" in content["result"]["line"]


# ---------------------------------------------------------------------------- det bench amp


def test_bench_puts_precisions_side_by_side(compared, place) -> None:
    code, content, err = compared
    result = content["result"]
    assert (code, content["command"]) == (0, "bench amp")
    assert set(result) == {
        "line", "model", "parameters", "image_size", "batch", "steps", "hardware", "device", "data",
        "machine", "results", "not_measured", "largest_batch", "energy", "folder",
    }  # fmt: skip
    assert [row["precision"] for row in result["results"]] == ["fp32", "bf16", "fp16"]
    for row in result["results"]:
        assert set(row) == {
            "precision", "images_per_s", "spread", "rounds", "speedup", "peak_bytes", "peak_share",
            "saved_bytes", "saved_share", "joules_per_image", "final_loss", "loss_error", "skipped",
            "largest_batch",
        }  # fmt: skip
        assert row["spread"][0] <= row["images_per_s"] <= row["spread"][1]
        assert len(row["rounds"]) == 2
        assert row["saved_bytes"] > 1e5
        assert row["final_loss"] > 0
        assert row["peak_bytes"] is None and row["largest_batch"] is None
    base, half, _ = result["results"]
    assert (base["speedup"], base["saved_share"], base["loss_error"]) == (1, 1, 0)
    assert 0 < half["loss_error"] < 0.2  # another precision, and yet the same training
    assert result["largest_batch"] == "not measured on a CPU"
    assert "2 steps in each precision" in err
    folder = place / result["folder"]
    assert folder.name == "bench_amp"
    assert json.loads((folder / "bench_amp.json").read_text())["line"] == result["line"]
    assert "| fp32 |" in (folder / "bench_amp.md").read_text()
    assert (folder / "bench_amp.png").stat().st_size > 5_000


class FakeContender:
    """Takes a second for a step of fp32 and half a second for one of bf16; keeps the order."""

    def __init__(self, name: str, batches: list[list[int]], said: list[str]) -> None:
        self.name, self.batches, self.said, self.steps = name, batches, said, 0

    def train(self, steps: int) -> float:
        self.said.append(f"{self.name} {steps}")
        self.steps += steps
        return steps * (1.0 if self.name == "fp32" else 0.5)


def test_precisions_are_interleaved_and_all_take_every_step() -> None:
    said: list[str] = []
    contenders = [FakeContender(name, [[0] * 4], said) for name in ("fp32", "bf16")]
    rates = train_interleaved(contenders, 5, 3, lambda done, total: None)  # type: ignore[arg-type]
    assert said == ["fp32 1", "bf16 1", "bf16 2", "fp32 2", "fp32 2", "bf16 2"]
    assert rates == {"fp32": [4.0] * 3, "bf16": [8.0] * 3}


AMPERE = DeviceTraits("cuda", "NVIDIA A100", (8, 0), bf16_native=True, fp16_native=True)
TURING = DeviceTraits("cuda", "Tesla T4", (7, 5), fp16_native=True)
CPU = DeviceTraits("cpu", "AVX512", bf16_native=True)


@each(
    ("wanted", "traits", "names", "without"),
    [
        (None, AMPERE, ["fp32", "tf32", "bf16", "fp16"], set()),
        (None, TURING, ["fp32", "fp16"], {"tf32", "bf16"}),
        (None, CPU, ["fp32", "bf16"], {"tf32", "fp16"}),
        ("fp16, bf16", CPU, ["fp32", "bf16", "fp16"], set()),
        ("tf32", AMPERE, ["fp32", "tf32"], set()),
    ],
)
def test_what_is_compared_follows_the_device_or_the_words(wanted, traits, names, without) -> None:
    chosen, reasons = choose_names(wanted, traits)
    assert (chosen, set(reasons)) == (names, without)


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(UsageError, match="leave tf32 out"):
        choose_names("tf32", TURING)


def batch_of(images: int) -> Batch:
    """Image i is filled with i and has i boxes of label i."""
    index = torch.repeat_interleave(torch.arange(images), torch.arange(images))
    pixels = torch.arange(images, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    boxes = torch.zeros(len(index), 4)
    places = list(range(images))
    return Batch(
        pixels, boxes, index, index, places, [Path(str(i)) for i in places],
        [(4, 4)] * images, [None] * images,
    )  # fmt: skip


def test_a_tiled_batch_repeats_images_with_their_boxes() -> None:
    batch = contest.tiled(batch_of(3), 8)
    assert len(batch) == 8
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert batch.indices == [0, 1, 2, 0, 1, 2, 0, 1]
    assert batch.batch_index.tolist() == [1, 2, 2, 4, 5, 5, 7]
    assert batch.labels.tolist() == [1, 2, 2, 1, 2, 2, 1]


@each(("room", "found"), [(100, 64), (4, 4), (3, 2), (1, 1), (9999, 1024)])
def test_the_largest_batch_is_a_power_of_two_that_fits(room, found, monkeypatch) -> None:
    monkeypatch.setattr(contest, "_fits", lambda run, name, batch: len(batch) <= room)
    assert contest.largest_batch(None, "fp32", batch_of(6)) == found  # type: ignore[arg-type]


def test_the_gpu_script_hands_its_words_to_the_command(tmp_path) -> None:
    environment = os.environ | {"PYTHON": "echo", "PAGES": str(tmp_path)}
    script = ROOT / "benchmarks" / "gpu_amp.sh"
    words = ("yolo26n", "imgsz=96", "steps=2", "device=cpu")
    done = subprocess.run(
        ["bash", script, *words], env=environment, capture_output=True, text=True, check=True
    )
    command, page = done.stdout.splitlines()
    for word in ("bench amp", "model=yolo26n", "imgsz=96", "steps=2", "device=cpu", "batch=16"):
        assert word in command
    assert "imgsz=640" not in command
    assert page.startswith(str(ROOT / "benchmarks" / "amp_page.py"))
    assert page.endswith(str(tmp_path))
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert [done.stdout.count(f"model=yolo26{size} ") for size in "nsm"] == [1, 1, 1]


def test_a_page_is_named_by_model_hardware_and_date(compared, place, tmp_path) -> None:
    spec = importlib.util.spec_from_file_location("amp_page", ROOT / "benchmarks" / "amp_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = place / compared[1]["result"]["folder"]
    os.utime(folder / "bench_amp.json", (0, 86400.0 * 365.5))
    module.copy_page(folder, tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rpartition(".")[2] for name in made] == ["json", "md", "png"]
    assert all(name.startswith("amp-yolo26n-cpu-") for name in made)
    assert all("-1971-01-01." in name for name in made)


# ---------------------------------------------------------------------------- the page


def test_the_page_gives_every_threshold_as_it_is() -> None:
    page = (ROOT / "docs" / "mixed-precision.md").read_text()
    rows = re.findall(r"^\| `(M\w+)` \| ([\d.]+) \|", page, re.M)
    told = {name: float(value) for name, value in rows}
    limits = {name for name in vars(sanity) if name.startswith(("MAX_", "MIN_"))}
    assert told == {name: getattr(sanity, name) for name in limits}


# ---------------------------------------------------------------------------- wrong words


@each(
    ("typed", "said"),
    [
        ("amp yolo26", "did you mean yolo26n"),
        ("amp amp=int8", "one of auto, True, False, fp16, bf16, fp32"),
        ("amp amp_force=True", "needs a named precision, not amp=auto"),
        ("amp epochs=3", "det amp has no option 'epochs': it belongs to det train"),
        ("amp data=nope.yaml", "nope.yaml does not exist"),
        ("amp device=gpu", "expected cpu, mps, cuda"),
        ("amp imgsz=8", "from 32"),
        ("bench train", "choose from amp"),
        ("bench steps=3", "missing command: write det bench and one of amp"),
        ("bench amp steps=0", "out of range"),
        ("bench amp precisions=int8", "unknown precision 'int8', choose from fp32, tf32"),
        ("bench amp precisions=tf32 device=cpu", "this device has no TF32"),
        ("bench amp precision=bf16", "no option 'precision'"),
    ],
)
def test_wrong_words_are_refused_in_one_line(typed: str, said: str, capfd, place) -> None:
    before = sorted(place.iterdir())
    assert main(typed.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
    assert sorted(place.iterdir()) == before


def test_the_group_shows_its_commands(capfd) -> None:
    assert main(["bench"]) == 0
    assert "det bench" in capfd.readouterr().out
