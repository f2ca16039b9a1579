"""The command line as a user sees it: what is on stdout, what on stderr, which exit code."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
import yolodet
from rows import each
from yolodet import __version__
from yolodet.cli import main
from yolodet.detector.checkpoints import check as model_check
from yolodet.detector.options.catalog import COMMANDS
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.repeat import pipeline as repeat_pipeline
from yolodet.detector.run import machine
from yolodet.detector.run.hardware import DeviceTraits, candidates
from yolodet.detector.run.log import Log
from yolodet.detector.train import check as train_check

TRAINED = {
    "metrics": {
        "map": 0.5, "map_50": 0.75, "precision": float("nan"), "recall": None, "best_conf": 0.2,
    },
    "best_epoch": 3,
    "epochs": 5,
    "folder": "/runs/train",
    "best": "/runs/train/weights/best.safetensors",
}  # fmt: skip


class FakePipeline(ModuleType):
    """Stands in for the modules that train and predict; keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__("yolodet.detector.train.pipeline")
        self.calls: list[tuple] = []
        self.error: BaseException | None = None

    def train(self, config, given, log: Log, **_: object) -> dict:
        self.calls.append((config, given))
        log.info("talk")
        log.warn("beware")
        print("a library prints")
        if self.error is not None:
            raise self.error
        return TRAINED

    def predict(self, config, given, log: Log) -> dict:
        self.calls.append((config, given))
        return {
            "folder": "runs/predict", "images": 0, "detections": 0,
            "best_score": None, "file": None,
        }  # fmt: skip

    def stand_in(self, monkeypatch) -> None:
        for room in ("train", "predict"):
            monkeypatch.setitem(sys.modules, f"yolodet.detector.{room}.pipeline", self)
            monkeypatch.setattr(f"yolodet.detector.{room}.pipeline", self, raising=False)
        monkeypatch.setattr(repeat_pipeline, "train", self.train)


@pytest.fixture
def pipeline(monkeypatch, tmp_path) -> FakePipeline:
    fake = FakePipeline()
    fake.stand_in(monkeypatch)
    monkeypatch.setattr(train_check, "check_data", lambda *a, **k: None)
    monkeypatch.chdir(tmp_path)
    return fake


def run_python(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_both_grammars_reach_the_trainer_alike(pipeline) -> None:
    assert main(["train", "data=coco8.yaml", "amp=True", "epochs=5"]) == 0
    assert main(["train", "--data", "coco8.yaml", "--amp", "--epochs", "5"]) == 0
    expected = (
        TrainConfig(data="coco8.yaml", amp=True, epochs=5),
        frozenset({"data", "amp", "epochs"}),
    )
    assert pipeline.calls == [expected, expected]


def test_stdout_has_the_result_and_stderr_the_talk(pipeline, capsys) -> None:
    assert main(["train"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "AP 0.500, AP50 0.750: good",
        "best epoch: 3 of 5",
        "results: /runs/train",
        "best weights: /runs/train/weights/best.safetensors",
        "next:",
        "  det val model=/runs/train",
        "  det predict photo.jpg conf=0.2 model=/runs/train",
        "  det export format=onnx model=/runs/train",
    ]
    for talk in ("talk", "beware", "a library prints"):
        assert talk in err


@pytest.mark.parametrize("flag", ["--json", "json=True"])
def test_json_prints_one_object_and_nothing_else(pipeline, capsys, flag: str) -> None:
    assert main(["train", flag]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is True
    assert content["command"] == "train"
    assert content["warnings"] == ["beware"]
    assert content["result"]["metrics"] == {
        "map": 0.5, "map_50": 0.75, "precision": None, "recall": None, "best_conf": 0.2,
    }  # fmt: skip


def test_json_of_an_error_says_the_same_as_stderr(pipeline, capsys) -> None:
    assert main(["train", "epohcs=5", "--json"]) == 2
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content == {"ok": False, "error": content["error"], "exit_code": 2}
    assert err == f"det: error: {content['error']}\n"


def test_quiet_is_verbose_off_and_leaves_warnings(pipeline, capsys) -> None:
    assert main(["train", "--quiet"]) == 0
    err = capsys.readouterr().err
    assert "beware" in err
    assert "talk" not in err
    assert pipeline.calls[0][0].verbose is False
    assert main(["train", "--quiet", "verbose=True"]) == 2


class Failed(RuntimeError):
    exit_code = 1


@each(
    ("error", "code", "said"),
    [
        (Failed("no\nluck"), 1, "det: error: no luck"),
        (KeyboardInterrupt(), 130, "det: stopped by Ctrl-C"),
        (FileNotFoundError(2, "No such file", "a.jpg"), 1, "det: error: a.jpg: No such file"),
        (MemoryError(), 1, "out of memory"),
        (KeyError("x"), 1, "this is a bug in det (KeyError: 'x'); run again with --debug"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    pipeline, capsys, error, code: int, said: str
) -> None:
    pipeline.error = error
    assert main(["train"]) == code
    err = capsys.readouterr().err
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
    assert main(["train", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_stopped_run_is_not_called_an_error(pipeline, capsys) -> None:
    pipeline.error = Failed("stopped after epoch 3")
    pipeline.error.exit_code = 130
    assert main(["train"]) == 130
    assert capsys.readouterr().err.endswith("det: stopped after epoch 3\n")


def test_predict_takes_lone_words_as_sources(pipeline, tmp_path, monkeypatch) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(model_check, "newest_run", lambda project: Path("newest"))
    assert main(["predict", "a.jpg", "b.jpg"]) == 0
    assert pipeline.calls == [
        (
            PredictConfig(source="a.jpg,b.jpg", model="newest/weights/best.safetensors"),
            frozenset({"source"}),
        )
    ]


def test_info_shows_a_model_as_lines(pipeline, capsys) -> None:
    assert main(["info", "yolo26n"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "name: yolo26n", "num_classes: 80", "image_size: 640", "parameters: 2572280",
    ]  # fmt: skip
    assert lines[-1] == "branches: one_to_many, one_to_one"


def test_info_without_a_model_describes_the_machine(capsys) -> None:
    assert main(["info", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["yolodet"] == __version__
    assert result["devices"][0]["device"].startswith("cpu")
    assert "fp32" in result["devices"][0]["native"]


def test_info_and_the_ladder_agree_on_what_is_native(monkeypatch, capsys) -> None:
    """Also for a card whose hardware has fp16 and gets it wrong, or a processor without torch's
    x86 checks: both ask hardware.py."""
    for traits in (
        DeviceTraits("cpu", "neon", bf16_native=True),
        DeviceTraits("cpu", "AVX2"),
        DeviceTraits("cuda", "NVIDIA GeForce GTX 1660 Ti", (7, 5), fp16_native=True),
    ):
        monkeypatch.setattr(machine, "traits_of", lambda device, traits=traits: traits)
        assert main(["info", "--json"]) == 0
        (native,) = {
            tuple(device["native"])
            for device in json.loads(capsys.readouterr().out)["result"]["devices"]
        }
        assert native == ("fp32", *candidates(traits))


def test_config_shows_the_resulting_values_and_checks_them(capsys) -> None:
    assert main(["config", "train", "epochs=3", "--no-amp"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["epochs"], values["amp"], values["batch"]) == (3, False, 16)
    assert main(["config", "train", "epochs=0"]) == 2


def test_config_alone_prints_every_command(capsys) -> None:
    assert main(["config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out).keys() == {"train", "val", "predict", "track"}


def test_a_printed_config_trains_the_same(pipeline, tmp_path, capsys) -> None:
    assert main(["config", "train", "epochs=3", "optimizer=SGD"]) == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "cfg=my.yaml"]) == 0
    assert main(["train", "epochs=3", "optimizer=SGD"]) == 0
    assert pipeline.calls[0] == pipeline.calls[1]


@each("command", COMMANDS)
def test_help_of_a_command_names_all_its_options(command, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command.path, "--help"]) == 0
    text = capsys.readouterr().out
    assert command.summary in text
    for name, option in command.options.items():
        assert f"--{name.replace('_', '-')}" in text
        assert option.doc[:30] in text


@each("typed", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_the_commands(typed: list[str], capsys) -> None:
    assert main(typed) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert command.path[0] in text
    assert "det train data=coco8.yaml amp=True" in text


@pytest.mark.parametrize("typed", [["data"], ["data", "--help"], ["config", "-h"]])
def test_a_group_without_a_command_shows_its_help(typed: list[str], capsys) -> None:
    assert main(typed) == 0
    assert f"det {typed[0]}" in capsys.readouterr().out


def test_version() -> None:
    done = run_python("-m", "yolodet.cli", "--version")
    assert (done.returncode, done.stdout) == (0, f"det {__version__}\n")


def test_the_package_is_the_command_too() -> None:
    done = run_python("-m", "yolodet", "--version")
    assert (done.returncode, done.stdout) == (0, f"det {__version__}\n")


def test_a_command_that_loads_torch_says_so_first(tmp_path) -> None:
    """On stderr, before torch is loaded; not where only the result is wanted."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is loaded')")
    code = "import sys; from yolodet.cli import main; sys.path.insert(0, ''); main(sys.argv[1:])"
    said = [
        run_python("-c", code, "info", "yolo26n", *more, cwd=tmp_path).stderr.splitlines()
        for more in ([], ["--quiet"], ["--json"])
    ]
    loaded = "torch is loaded"
    assert said == [[f"det {__version__}, loading PyTorch ...", loaded], [loaded], [loaded]]


TYPER = ("typer", "rich")
NEVER = ("torch", "numpy", "cv2", "matplotlib", "safetensors")
SLOW = (*NEVER, *TYPER)
NOT_FOR_WORDS = (*SLOW, "yaml", "json", "urllib.request", "ssl", "tempfile", "zipfile")


@each(
    ("typed", "slow"),
    [
        (["--help"], (*NEVER, "yaml", "urllib.request", "ssl")),
        (["train", "--help"], (*NEVER, "yaml", "urllib.request", "ssl")),
        (["train", "epohcs=3"], NOT_FOR_WORDS),
        (["train", "data=none.yaml"], SLOW),
        (["val", "data=coco8.yaml"], SLOW),
        (["predict", "none.jpg"], SLOW),
        (["export", "model=none.safetensors"], SLOW),
        (["config"], SLOW),
        (["weights", "list"], SLOW),
    ],
)
def test_help_and_checks_import_nothing_slow(tmp_path, typed: list[str], slow) -> None:
    code = f"import sys; from yolodet.cli import main; main({typed})"
    code += f"; print('loaded:', *sys.modules.keys() & {set(slow)})"
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stderr


def test_a_package_without_sources_knows_its_options(tmp_path) -> None:
    """As it is installed from compiled files alone."""
    package = tmp_path / "yolodet"
    names = shutil.ignore_patterns("tests", "build", "docs", "benchmarks", ".*", "runs")
    shutil.copytree(Path(yolodet.__file__).parent, package, ignore=names)
    assert compileall.compile_dir(package, quiet=1, legacy=True)
    for source in package.rglob("*.py"):
        source.unlink()
    code = "import sys; from yolodet.cli import main; sys.exit(main(['config']))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "epochs: 100" in done.stdout


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "yolodet.cli", "config"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=300)


@each(
    "typed",
    [
        "train",
        "train shapes.yaml",
        "train data=coco8 time=0.5 workers=0",
        "train cos_lr=True",
        "train cos_lr=True schedule=cosine",
        "train nms=True iou=0.5 agnostic_nms=True",
        "train device=cuda:0 name=my-run project=some/where",
        "train amp=fp16 amp_force=True nbs=64",
        "train epochs=10 close_mosaic=3 warmup_epochs=1.5",
        "train save=False patience=5",
        "train resume=runs/old iou=0.6",  # whether nms is on is for the old run to say
        "train resume=runs/old/weights/last.pt epochs=200",
    ],
)
def test_a_right_command_reaches_the_trainer(typed: str, monkeypatch, tmp_path) -> None:
    pipeline = FakePipeline()
    pipeline.stand_in(monkeypatch)
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "runs" / "old" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"")
    assert main(typed.split()) == 0
    assert len(pipeline.calls) == 1
    assert not (tmp_path / "cache").exists()
