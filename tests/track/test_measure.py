"""Measured tracks: known values, the library's own, and one line for a wrong file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rows import each
from tracks import needs_trackers
from yolodet import cli
from yolodet.detector.options.errors import UsageError
from yolodet.detector.track.measure import measure, result_files
from yolodet.detector.track.mot import MotError, find_sequences, read_rows, sequence_of


def write(path: Path, rows: list[tuple[float, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def two_walkers(frames: int = 10) -> list[tuple[float, ...]]:
    return [(f, i, 10 * f, 100 * i, 30, 40, 1, 1, 1) for f in range(1, frames + 1) for i in (1, 2)]


@needs_trackers
def test_the_truth_itself_is_perfect_and_a_swap_costs_what_the_papers_say(tmp_path: Path) -> None:
    truth = two_walkers()
    write(tmp_path / "s/gt/gt.txt", truth)
    swapped = [(f, 3 - i if f > 5 else i, *rest) for f, i, *rest in truth]
    perfect = write(tmp_path / "perfect.txt", truth)
    exchanged = write(tmp_path / "swap.txt", swapped)
    sequences = find_sequences(str(tmp_path))
    best = measure(sequences, {"s": perfect})["all"]
    assert [best[n] for n in ("HOTA", "MOTA", "IDF1", "IDSW")] == pytest.approx([1, 1, 1, 0])
    found = measure(sequences, {"s": exchanged})["sequences"]["s"]
    # both objects change once in 20 boxes; half of each is matched; AssA = 5 / (5 + 5 + 5)
    assert found["IDSW"] == 2 and found["MOTA"] == pytest.approx(1 - 2 / 20)
    assert found["IDF1"] == pytest.approx(0.5) and found["HOTA"] == pytest.approx((1 / 3) ** 0.5)
    nothing = measure(sequences, {"s": write(tmp_path / "none.txt", [])})["all"]
    assert nothing["HOTA"] == nothing["MOTA"] == 0


@needs_trackers
def test_by_the_rules_of_mot_the_metrics_are_those_of_the_library(tmp_path: Path) -> None:
    from trackers.eval import evaluate_mot_sequences

    rng = np.random.default_rng(0)
    truth = [(*row[:7], 1 if row[1] < 2 else 7, 1) for row in two_walkers(30)]
    noise = [(f, i, x + rng.normal() * 4, y, w, h, 0.9, 1, -1) for f, i, x, y, w, h, *_ in truth]
    noise = [row for row in noise if row[1] < 2 or row[0] % 3]  # class 7 is missed at times
    for name in ("MOT-1", "MOT-2"):
        write(tmp_path / "gt" / name / "gt/gt.txt", truth)
        write(tmp_path / "found" / f"{name}.txt", noise[: 40 if name == "MOT-1" else 60])
    theirs = evaluate_mot_sequences(
        tmp_path / "gt", tmp_path / "found", metrics=["HOTA", "CLEAR", "Identity"]
    ).aggregate
    sequences = find_sequences(str(tmp_path / "gt"))
    ours = measure(sequences, result_files(str(tmp_path / "found"), sequences))["all"]
    assert ours["HOTA"] == pytest.approx(theirs.HOTA.HOTA, abs=1e-9)
    assert ours["MOTA"] == pytest.approx(theirs.CLEAR.MOTA, abs=1e-9)
    assert ours["IDF1"] == pytest.approx(theirs.Identity.IDF1, abs=1e-9)
    every = measure(sequences, result_files(str(tmp_path / "found"), sequences), "all")["all"]
    assert every["MOTA"] != pytest.approx(ours["MOTA"])  # class 7 counts too


@needs_trackers
def test_files_are_measured_without_a_model(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for sequence in find_sequences(str(videos)):
        rows = [tuple(row) for row in read_rows(sequence.truth) if row[6] != 0]
        write(tmp_path / f"{sequence.name}.txt", rows)
    typed = ["track", f"data={videos}", f"results={tmp_path}"]
    assert cli.main([*typed, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert told["all"]["HOTA"] == pytest.approx(1) and list(told["sequences"]) == [
        "video-01", "video-02",
    ]  # fmt: skip
    assert cli.main(typed) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["sequence", "HOTA"] and table[-1].split()[1] == "1.000"


@each(
    ("text", "said"),
    [
        ("1,1,0,0,5\n", "gt.txt:1: expected frame,id"),
        ("\n0,1,0,0,5,5\n", "gt.txt:2: expected"),
        ("1,1,nan,0,5,5\n", "expected"),
        ("1,x,0,0,5,5\n", "expected"),
    ],
)
def test_a_file_that_is_not_in_mot_layout_is_named_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(text)
    with pytest.raises(MotError, match=said):
        read_rows(path)


def test_what_a_row_leaves_out_counts_as_one(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("1 2 3 4 5 6\n2,2,3,4,5,6,0,3\n")
    assert read_rows(path).tolist() == [[1, 2, 3, 4, 5, 6, 1, 1, 1], [2, 2, 3, 4, 5, 6, 0, 3, 1]]
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=x\n")
    with pytest.raises(MotError, match="frameRate"):
        sequence_of(tmp_path)
    with pytest.raises(UsageError, match="expected a sequence in MOT layout"):
        find_sequences(str(tmp_path))
