"""Parts of the benchmarks that could mislead: ratios, memory, the reference, what is measured."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


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
import subprocess, sys, time
more = "import time; x = b'x' * 90_000_000; time.sleep(2)"
child = subprocess.Popen([sys.executable, "-c", more])
x = b"x" * 60_000_000
child.wait()
print("talk")
print('{"images": 3}')
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc of Linux")
def test_memory_is_that_of_the_whole_tree() -> None:
    import children

    result = children.run([sys.executable, "-c", HUNGRY])
    assert result["images"] == 3
    assert 150_000_000 < result["rss"] < 250_000_000
    assert 150_000_000 < result["pss"] <= result["rss"]


def test_a_program_that_fails_is_told() -> None:
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
    assert clock.shares() == {"waits": 0.3, "draws": 0.2}


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
