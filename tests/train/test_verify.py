"""``det verify``: a true run is equal, also with other workers and caches; what was changed is
named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rows import each
from tiny import same, train, write_tiny_data
from yolodet import YOLO, cli
from yolodet.detector.examine.verify import Check, Verification
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run.folder import BEST, LAST, RunNotFound
from yolodet.detector.train import checksums
from yolodet.detector.train.checksums import CHECKSUMS, STATE
from yolodet.weights.checkpoint import load_state, load_weights, save_weights

EPOCHS = 2
USUAL = {"epochs": EPOCHS, "nbs": 6, "save_state": True}

pytestmark = pytest.mark.usefixtures("tiny_models")
Verified = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run and of its data; tests change a copy."""
    place = tmp_path_factory.mktemp("verified")
    write_tiny_data(place / "data", train=12)
    with pytest.MonkeyPatch.context() as patch:
        from tiny import use_tiny_detector

        use_tiny_detector(patch)
        train(place / "data" / "data.yaml", place / "runs", **USUAL)
    return place


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., Verified]:
    def verified(folder: Path, **words: Any) -> Verified:
        before = contents(folder)
        typed = [f"{name}={value}" for name, value in words.items()]
        code = cli.main(["verify", str(folder), *typed, "--json"])
        assert contents(folder) == before
        return code, json.loads(capsys.readouterr().out)["result"]

    return verified


def copied(made: Path, place: Path) -> Path:
    return Path(shutil.copytree(made / "runs" / "train", place / "train"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def checks(result: dict[str, Any]) -> dict[str, bool | None]:
    return {check["name"]: check["equal"] for check in result["checks"]}


def told(result: dict[str, Any], name: str) -> str:
    return next(str(check["told"]) for check in result["checks"] if check["name"] == name)


@each("words", [{}, {"workers": 2, "cache": "none", "epochs": 1}])
def test_a_true_run_is_equal(
    made: Path, verify: Callable[..., Verified], words: dict[str, Any]
) -> None:
    code, result = verify(made / "runs" / "train", **words)
    assert code == 0 and result["equal"], result
    names = ("weights", "results.csv", "data", "steps", "kept steps", "validation")
    assert checks(result) == dict.fromkeys(names, True)
    assert "2 updates" in told(result, "steps")
    assert ("1 epoch" in told(result, "kept steps")) == ("epochs" in words)


def test_the_record_changes_no_training_and_the_kept_state_is_one_of_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums.Checksums, "step", lambda *_: None)
    monkeypatch.setattr(checksums.Checksums, "epoch", lambda *_: None)
    train(made / "data" / "data.yaml", tmp_path, **USUAL)
    one, other = (load_state(place / LAST) for place in (made / "runs/train", tmp_path / "train"))
    assert same(one["model"], other["model"]) and same(one["ema"], other["ema"])
    assert load_state(made / "runs" / "train" / STATE)["position"]["epoch"] in range(1, EPOCHS)


def edit_results(folder: Path) -> None:
    """AP of the best epoch is a tenth higher, in all files that tell of it."""
    path = folder / "results.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[2][lines[0].index("metrics/map")] = "0.9"
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def exchange_weights(folder: Path) -> None:
    tensors, meta = load_weights(folder / BEST)
    others = {n: t * 1.5 if t.is_floating_point() else t for n, t in tensors.items()}
    save_weights(folder / BEST, others, meta)


def edit_metrics(folder: Path) -> None:
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["metrics"]["map"] = 0.9
    path.write_text(json.dumps(results))


def edit_a_step(folder: Path) -> None:
    path = folder / CHECKSUMS
    facts = json.loads(path.read_text())
    facts["starts"][0]["steps"][1]["losses"]["box"] += 1e-9
    path.write_text(json.dumps(facts))


def start_otherwise(folder: Path) -> None:
    path = folder / CHECKSUMS
    facts = json.loads(path.read_text())
    facts["starts"][0]["config"]["seed"] = 1
    path.write_text(json.dumps(facts))


def test_all_that_was_changed_is_named(
    made: Path, tmp_path: Path, verify: Callable[..., Verified]
) -> None:
    copy = copied(made, tmp_path)
    for change in (edit_results, exchange_weights, edit_metrics, edit_a_step):
        change(copy)
    code, result = verify(copy)
    assert code == 1 and not result["equal"]
    assert result["verdict"] == "not equal: weights, results.csv, steps, validation"
    assert "weights/best.safetensors is not" in told(result, "weights")
    assert told(result, "results.csv").startswith("epoch 2:")
    assert told(result, "steps").startswith("batch 4 of epoch 1: box loss ")
    assert "map 0.9 then, " in told(result, "validation")
    assert checks(result)["kept steps"] and checks(result)["data"]


def test_another_start_is_named(
    made: Path, tmp_path: Path, verify: Callable[..., Verified]
) -> None:
    copy = copied(made, tmp_path)
    start_otherwise(copy)
    _, result = verify(copy)
    assert told(result, "steps") == "the weights that the run starts from are others"
    assert {name for name, equal in checks(result).items() if equal is False} == {"steps"}


def test_a_changed_label_file_and_a_changed_image_are_named(
    made: Path, tmp_path: Path, verify: Callable[..., Verified]
) -> None:
    data = shutil.copytree(made / "data", tmp_path / "data")
    labels = sorted((data / "labels" / "train").glob("*.txt"))
    labels[3].write_text(labels[3].read_text().splitlines()[0] + "\n")
    images = sorted((data / "images" / "val").iterdir())
    images[1].write_bytes(images[0].read_bytes())
    code, result = verify(made / "runs" / "train", data=data / "data.yaml")
    assert code == 1 and checks(result)["data"] is False
    assert labels[3].stem in told(result, "data") and images[1].name in told(result, "data")


@each("change", [None, edit_results])
def test_python_says_what_the_command_line_says(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None] | None,
) -> None:
    folder = made / "runs" / "train" if change is None else copied(made, tmp_path)
    if change is not None:
        change(folder)
    code = cli.main(["verify", str(folder)])
    shown = capsys.readouterr().out
    random.seed(1)
    proof = YOLO(folder, verbose=False).verify()
    assert random.random() == random.Random(1).random()  # the caller's generators stay
    assert str(proof) + "\n" == shown and proof.folder == folder
    assert (code, bool(proof), proof.equal) == (int(change is not None), not code, not code)
    wrong = [check.name for check in proof.checks if check.equal is False]
    assert wrong == ([] if change is None else ["results.csv", "validation"])
    assert proof.verdict == shown.splitlines()[-1]


def test_python_verifies_the_run_of_a_checkpoint_or_the_one_that_is_named(
    made: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"yolo26n was not trained: name a run"):
        YOLO("yolo26n").verify()
    alone = Path(shutil.copy(made / "runs" / "train" / BEST, tmp_path / "alone.safetensors"))
    with pytest.raises(RunNotFound, match=r"alone.safetensors is in no run folder"):
        YOLO(alone).verify()
    with pytest.raises(RunNotFound, match=str(tmp_path)):
        YOLO("yolo26n").verify(tmp_path)
    with pytest.raises(UsageError, match="epoch"):
        YOLO("yolo26n").verify(tmp_path, epoch=1)


def test_a_machine_that_differs_is_named_and_is_no_proof_against_the_run(
    made: Path, tmp_path: Path, verify: Callable[..., Verified]
) -> None:
    copy = copied(made, tmp_path)
    facts = json.loads((copy / CHECKSUMS).read_text())
    facts["sessions"][0]["where"]["torch"] = "1.0"
    (copy / CHECKSUMS).write_text(json.dumps(facts))
    code, result = verify(copy)
    assert code == 0 and "torch 1.0 then" in result["verdict"]
    found = Verification(copy, [Check("steps", False, "")], result["differs"])
    assert not found.equal and "proves nothing against the run" in found.verdict
    found.checks.append(Check("weights", False, ""))
    assert found.verdict == "not equal: steps, weights"


def test_a_resumed_run_is_verified_up_to_where_it_was_resumed(
    made: Path, tmp_path: Path, verify: Callable[..., Verified]
) -> None:
    data = made / "data" / "data.yaml"
    train(data, tmp_path, epochs=1, nbs=6)
    train(data, tmp_path, resume=tmp_path / "train", epochs=2)
    code, result = verify(tmp_path / "train", epochs=5)
    assert code == 0, result
    assert "1 epoch " in told(result, "steps")
    assert len(json.loads((tmp_path / "train" / CHECKSUMS).read_text())["sessions"]) == 2


def test_a_run_without_weights_and_a_folder_without_a_run(
    made: Path, tmp_path: Path, verify: Callable[..., Verified], capsys: pytest.CaptureFixture[str]
) -> None:
    train(made / "data" / "data.yaml", tmp_path, epochs=1, save=False)
    code, result = verify(tmp_path / "train")
    assert code == 0
    assert checks(result)["weights"] is None and checks(result)["validation"] is None
    path = tmp_path / "train" / CHECKSUMS
    facts = json.loads(path.read_text())
    for damage in ({"starts": 3}, {"sessions": []}, {"files": {"a": 1}}, {"epochs": [{}]}):
        path.write_text(json.dumps({**facts, **damage}))
        assert cli.main(["verify", str(tmp_path / "train")]) == 2
        assert f"no {CHECKSUMS} that can be read" in capsys.readouterr().err
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert f"name one of its runs, e.g. {tmp_path / 'train'}" in capsys.readouterr().err
