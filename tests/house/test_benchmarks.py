"""Parts of the benchmarks that could mislead: ratios, memory, the reference, what is measured."""

import importlib
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import use_tiny_detector, write_tiny_data

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = [
    path.stem
    for path in sorted(BENCHMARKS.glob("*.py"))
    if "__main__" in path.read_text() and not path.stem.startswith("peer_")
]
"""What people start; the programs of a peer need its packages."""


@pytest.fixture(autouse=True)
def found_as_they_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_ratios_are_taken_within_rounds() -> None:
    import pages

    assert pages.ratios([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == (1.0, 2.0, 3.0)
    assert pages.shown((1.0, 2.0, 3.0), 1) == "2.0 (1.0-3.0)"


def test_a_page_is_named_after_what_where_and_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pages

    table = pages.table(("who", "speed"), [["ours", 3]])
    path = pages.write_page(tmp_path, "train-speed", "yolo26n", "NVIDIA H200", [table], {"a": 1})
    assert path.name.startswith("train-speed-yolo26n-nvidia-h200-20") and path.suffix == ".md"
    assert "| who | speed |\n|---|---:|\n| ours | 3 |\n" in path.read_text()
    assert path.read_text() in capsys.readouterr().out
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["facts"] == {"a": 1} and facts["hardware"] == "NVIDIA H200"


HUNGRY = """
import pathlib, subprocess, sys, time
wait = '''
deadline = time.monotonic() + 120
while not pathlib.Path(sys.argv[1]).exists() and time.monotonic() < deadline:
    time.sleep(0.01)
'''
more = "import pathlib, sys, time; x = b'x' * 90_000_000" + wait
child = subprocess.Popen([sys.executable, "-c", more, sys.argv[1]])
x = b"x" * 60_000_000
exec(wait)
child.wait()
print("talk")
print('{"images": 3}')
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc of Linux")
def test_memory_is_that_of_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two processes end when what they hold together has been seen."""
    import children

    memory = children.memory

    def watched(pid: int) -> int:
        held = memory(pid)
        if held > 150_000_000:
            (tmp_path / "seen").touch()
        return held

    monkeypatch.setattr(children, "memory", watched)
    monkeypatch.setattr(children, "EVERY", 0.02)
    result = children.run([sys.executable, "-c", HUNGRY, tmp_path / "seen"])
    assert result["images"] == 3
    assert 150_000_000 < result["rss"] < 250_000_000


def test_a_program_that_fails_is_reported() -> None:
    import children

    with pytest.raises(SystemExit, match="no such thing"):
        children.run([sys.executable, "-c", "raise ValueError('no such thing')"])


@pytest.mark.parametrize("count", [1, 9, 40])
def test_the_dense_assigner_finds_what_ours_finds(count: int) -> None:
    import assign

    case = assign.make_case(3, 128, count, "cpu")
    assign.check(case)
    assert 0 < (assign.dense(case) > 0).sum() < case.logits[..., 0].numel()
    wrong = case._replace(true_labels=case.true_labels.flip(0))
    target = assign.dense(case)
    assert count == 1 or not torch.equal(assign.dense(wrong), target)


def test_made_up_labels_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scan

    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    scan.make_files(tmp_path / "data", 5, 3)
    yaml = tmp_path / "data" / "data.yaml"
    assert scan.seconds(yaml, 5, 3) > 0
    with pytest.raises(SystemExit, match="found 5 images and 15 boxes"):
        scan.seconds(yaml, 5, 4)


def test_everything_that_was_asked_for_is_measured_on_a_gpu() -> None:
    import gpu

    options = Namespace(
        device="cuda", seconds=1.0, models=["n", "s", "m"], batches=[64, 16, 128],
        precisions=["bf16", "fp32", "fp16"],
    )  # fmt: skip
    names = [name for name, _ in gpu.jobs(options, None)]
    assert len(names) == len(set(names))
    for model in options.models:
        for on in ("device", "cpu"):
            assert f"loop {model} batch 64 bf16, drawn on {on}" in names
        for batch in options.batches:
            for precision in options.precisions:
                assert f"step {model} batch {batch} {precision}" in names


def test_the_clock_tells_waiting_from_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_parts

    clock = gpu_parts.Clock(torch.device("cpu"))
    for time, name in ((0, "end"), (1, "draw"), (3, "there"), (8, "end"), (10, "there")):
        clock.marks.append((name, float(time)))
    assert clock.shares() == {"waits": 0.5, "draws": 0.2}


def test_growth_measures_as_many_images_on_every_row(tmp_path: Path) -> None:
    import growth

    options = Namespace(
        model="yolo26n", imgsz=160, batch=16, device="cpu", least=1000, short_budget=0.1
    )
    cases = growth.make_cases(options, {100: tmp_path / "a", 4000: tmp_path / "b"})
    assert len(cases) == 4
    epochs = [next(word for word in words if "epochs=" in word) for words in cases.values()]
    assert epochs == ["epochs=11", "epochs=2", "epochs=2", "epochs=2"]
    budgets = [words[words.index("--cache-budget") + 1] for words in list(cases.values())[2:]]
    assert set(budgets) == {str(int(0.1 * 4000 * 160 * 160 * 3 * 0.8))}


# ---------------------------------------------------------------- whole programs, with little to do


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a tiny run, and a tiny model under the name that is asked for."""
    use_tiny_detector(monkeypatch)
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    data = write_tiny_data(tmp_path / "data")
    words = [f"data={data}", "imgsz=64", "batch=3", "device=cpu", "amp=false", "pretrained=False"]
    return words


def run_here(
    program: Any, words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> str:
    """What a program prints."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [program.__file__, *words])
    program.main()
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_tells_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module(name)
    with pytest.raises(SystemExit) as ended:
        run_here(program, ["--help"], monkeypatch, capsys)
    assert ended.value.code == 0 and "usage: " in capsys.readouterr().out


def test_ours_is_timed_epoch_by_epoch(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ours_train
    from yolodet.detector.train import assemble

    monkeypatch.setattr(assemble, "memory_budget", assemble.memory_budget)  # it is put back
    words = [*tiny, "epochs=3", "save=False", "--cache-budget", "40000", "cache=ram"]
    facts = json.loads(run_here(ours_train, words, monkeypatch, capsys))
    assert (facts["images"], facts["val_images"], facts["precision"]) == (6, 3, "fp32")
    assert [len(facts[name]) for name in ("train_s", "train_cpu_s", "epoch_s")] == [2] * 3
    assert len(facts["val_s"]) == 2
    whole = [t + v for t, v in zip(facts["train_s"], facts["val_s"], strict=True)]
    assert all(a < b for a, b in zip(whole, facts["epoch_s"], strict=True))
    assert "% of the images" in facts["cache"]  # the budget was heeded


def test_the_first_step_ends_with_the_first_batch(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import startup
    from yolodet.detector.train.trainer import Trainer

    steps: list[int] = []
    train_batch = Trainer._train_batch
    monkeypatch.setattr(
        Trainer, "_train_batch", lambda *given: (steps.append(1), train_batch(*given))
    )
    monkeypatch.setattr(startup.os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        startup.train_one_step([*tiny, f"project={tmp_path}", "epochs=2"])
    assert (ended.value.code, steps) == (0, [1])


def test_a_profile_adds_up(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import profile_epoch

    facts = json.loads(run_here(profile_epoch, [*tiny, "--json"], monkeypatch, capsys))
    seconds = facts["seconds"]
    inside = (seconds["forward"] + seconds["backward"]) / sum(seconds.values())
    assert facts["outside"] == pytest.approx(1 - inside) and 0 < facts["outside"] < 1
    assert seconds["loss, assignment"] > 0 and seconds["optimizer"] > 0
    assert seconds["the rest of the loop"] > 0


def test_a_dry_run_of_the_gpu_benchmark_measures_everything(
    tmp_path: Path,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import gpu

    run_here(gpu, ["--dry-run", "--out", str(tmp_path / "pages")], monkeypatch, capsys)
    facts = json.loads(next((tmp_path / "pages").glob("gpu-speed-*.json")).read_text())["facts"]
    assert {row["kind"] for row in facts["rows"]} == {"step", "loop", "drawing"}
    assert all(row["images_per_s"] > 0 for row in facts["rows"]) and not facts["not_measured"]
    loops = {row["drawn"]: row for row in facts["rows"] if row["kind"] == "loop"}
    assert loops["device"]["draws"] > 0 and loops["cpu"]["draws"] == 0
    late = ["--dry-run", "--budget", "0", "--out", str(tmp_path / "late")]
    assert "Not measured for lack of time: loop" in run_here(gpu, late, monkeypatch, capsys)


def made_up(words: Sequence[str], environment: Any = None) -> dict[str, Any]:
    """What a child could say: the peer twice as slow on one thread, half as fast on two."""
    text = " ".join(map(str, words))
    slower = 1 + ("peer_train" in text) * (1 if "--threads" in text else 2)
    return {
        "peer": "a peer", "images": 100, "val_images": 25, "train_s": [slower * 10.0] * 2,
        "train_cpu_s": [slower * 19.0] * 2,
        "epoch_s": [slower * 10.0 + 2] * 2, "val_s": [1.0, 1.0], "val_ms_an_image": {"model": 40.0},
        "precision": "fp32", "threads": 2, "cache": "in memory, 4 MB", "rss": 2**30,
        "seconds": {"forward": 3.0, "backward": 6.0, "loader": 1.0}, "outside": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        (
            "train_speed",
            ["--data", "my.yaml", "--peer", "python"],
            [
                "| ours, amp=True | fp32 | 2 | 10.0 (10.0-10.0) | 8.3 (8.3-8.3) | 1.00 |",
                "| ours, amp=False | 3.00 (3.00-3.00) | 2.67 (2.67-2.67) | 2.00 (2.00-2.00) |",
                "| **outside forward and backward** | **10.0 %** | **10.0 %** |",
            ],
        ),
        # 40 ms per image to validate, 100 to train: a share of 40 / 300
        ("val_speed", ["--data", "my.yaml"], ["| 40.00 (40.00-40.00) | 13.3 (13.3-13.3) |"]),
        (
            "growth",
            ["--images", "2", "3"],
            ["| 3 images, all cached | 10.0 (10.0-10.0) | +0.0 % | 190.00 (190.00-190.00) |"],
        ),
    ],
)
def test_pages_say_what_the_programs_said(
    name: str,
    words: list[str],
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = __import__(name)
    monkeypatch.setattr(program, "run", made_up)
    monkeypatch.setenv("DET_CACHE", str(tmp_path))
    text = run_here(program, [*words, "--out", str(tmp_path)], monkeypatch, capsys)
    for line in expected:
        assert line in text


def test_a_program_gets_the_mask_and_nothing_that_importing_det_has_set() -> None:
    import children

    program = (
        "import json, os; names = ('GOMP_SPINCOUNT', 'ONEDNN_MAX_CPU_ISA');"
        "print(json.dumps({name: os.environ.get(name) for name in names}))"
    )
    children.OURS.add("GOMP_SPINCOUNT")
    found = children.run([sys.executable, "-c", program], children.MASK)
    assert (found["GOMP_SPINCOUNT"], found["ONEDNN_MAX_CPU_ISA"]) == (None, "AVX2")


def test_neighbors_are_compared_with_one_alone() -> None:
    import neighbors

    results = {
        "alone": [[(10.0, 8.0)], [(20.0, 4.0)]],
        "two at once": [[(18.0, 4.0), (19.0, 4.0)], [(60.0, 1.0), (50.0, 1.0)]],
        "beside a busy loop": [[(30.0, 4.0)], [(90.0, 1.0)]],
    }
    assert neighbors.shares(results) == ([10.0, 20.0], [0.95, 1.5], [0.5, 0.25])


def test_each_start_is_typed_as_a_user_would_and_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import children
    import finetune

    typed: list[list[str]] = []

    def answered(words: Sequence[str], environment: Any) -> dict[str, Any]:
        """AP 0.5 of seed 0 and 0.7 of seed 1; the test split reads 0.01 less."""
        typed.append([str(word) for word in words])
        folder = Path(environment["DET_WEIGHTS"]).parent
        (folder / "results.csv").write_text("epoch,metrics/map\n0,0.4\n")
        tested = "val" in words
        ap = 0.6 if tested else 0.5 + 0.2 * ("seed=1" in words)
        return {"result": {
            "metrics": {"map": ap - 0.01 * tested, "map_50": 0.8}, "folder": str(folder),
            "best": "best.safetensors", "train_seconds": 1.0, "precision": {"name": "fp32"},
            "model": "yolox_nano", "start": {"provenance": "a file"}, "best_epoch": 1,
        }}  # fmt: skip

    monkeypatch.setattr(children, "run", answered)
    (tmp_path / "yolox_nano_coco.pth").write_bytes(b"published")
    words = ["--data", "my.yaml fraction=0.5", "--start", "auto", "coco", "scratch", "--seeds", "0"]
    words += ["1", "--weights", str(tmp_path), "--work", str(tmp_path / "work")]
    words += ["--out", str(tmp_path / "pages"), "--recipe", "lr0=0.01"]
    text = run_here(finetune, words, monkeypatch, capsys)
    row = "(fp32) | 0.600 (0.500, 0.700) | 0.800 | 0.590 (0.590, 0.590) | 0.800 | -0.010 |"
    assert all(f"| {start}, auto {row}" in text for start in ("auto", "coco", "scratch"))
    assert "**my**, 15 epochs, imgsz of the weights, fraction=0.5 lr0=0.01:" in text
    trainings = [words for words in typed if "train" in words]
    assert len(trainings) == 6 == len(typed) / 2
    started = {
        tuple(word.partition("=")[0] for word in words if word.startswith(("model", "pretrained")))
        for words in trainings
    }
    assert started == {(), ("model",), ("model", "pretrained")}
    assert all("fraction=0.5" in words and "lr0=0.01" in words for words in trainings)
    assert (tmp_path / "work" / "weights" / "yolox_nano.pth").read_bytes() == b"published"
    run_here(finetune, words, monkeypatch, capsys)
    assert len(typed) == 12
