"""The comparison itself: what is a difference, what is none."""

from __future__ import annotations

import pytest
import torch
from rows import each
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.export.exported import predictions_of_rows
from yolodet.detector.export.formats.about import About
from yolodet.detector.export.proof.parity import TOLERANCES, compare
from yolodet.detector.models.head import decode_boxes
from yolodet.detector.options.formats import ExportError

FP32 = TOLERANCES["fp32"]


def found(*rows: tuple[float, ...]) -> Detections:
    """Rows of x, y, side, score, label."""
    table = torch.tensor(rows).reshape(-1, 5)
    corners = torch.cat((table[:, :2], table[:, :2] + table[:, 2:3]), 1)
    return Detections(corners, table[:, 3], table[:, 4].long())


ONE = found((10, 10, 20, 0.9, 0), (50, 50, 30, 0.6, 1), (10, 60, 25, 0.2, 1))


def test_equal_answers_have_no_faults() -> None:
    parity = compare([ONE, ONE], [ONE, ONE], FP32)
    assert (parity.matched, parity.missed, parity.extra) == (4, 0, 0), "0.2 is below the threshold"
    assert parity.faults == [] and parity.conf == 0.25


def test_differences_are_measured_and_judged() -> None:
    other = found((10, 10.5, 20, 0.88, 0), (50, 50, 30, 0.6, 1))
    parity = compare([ONE], [other], FP32)
    assert parity.pixels == pytest.approx(0.5) and parity.score == pytest.approx(0.02)
    assert parity.faults == ["boxes differ by 0.5 pixels", "scores differ by 0.02"]
    assert compare([ONE], [other], TOLERANCES["fp16"]).faults == []


def test_missing_extra_and_renamed_detections_are_faults() -> None:
    assert compare([ONE], [ONE.select(torch.tensor([0, 2]))], FP32).missed == 1
    assert compare([ONE.select(torch.tensor([0, 2]))], [ONE], FP32).extra == 1
    renamed = found((10, 10, 20, 0.9, 1), (50, 50, 30, 0.6, 1))
    parity = compare([ONE], [renamed], FP32)
    assert (parity.missed, parity.extra) == (1, 1) and len(parity.faults) == 2


def test_a_score_at_the_threshold_may_fall_on_either_side() -> None:
    above, below = found((0, 0, 9, 0.9, 0), (20, 20, 9, 0.2503, 0)), found((0, 0, 9, 0.9, 0))
    assert compare([above], [below], FP32).faults == []
    assert compare([below], [above], FP32).faults == []


def test_where_nothing_is_sure_the_threshold_is_lower_and_nothing_at_all_is_a_fault() -> None:
    faint = found((10, 10, 20, 0.04, 0), (50, 50, 30, 0.03, 1))
    parity = compare([faint], [faint], FP32)
    assert parity.conf == pytest.approx(0.02) and parity.matched == 2
    assert compare([found()], [found()], FP32).faults == ["nothing was found to compare"]


@each("precision", TOLERANCES)
def test_an_ap_of_nothing_proves_nothing(precision: str) -> None:
    """Any file reaches an AP of 0: boxes are the judge, and without boxes nobody is."""
    limit = TOLERANCES[precision]
    for ap in ((0.0, 0.0), (0.0, 0.4), (float("nan"), float("nan"))):
        assert compare([found()], [found()], limit, ap).faults == ["nothing was found to compare"]
        assert compare([ONE], [ONE], limit, ap).faults == []
        far = found((10, 10, 20, 0.9, 0))
        assert compare([ONE], [far], limit, ap).faults == ["missing: 1 detection"]
    assert compare([found()], [found()], limit, (0.5, 0.5)).faults == []


def test_numbers_that_are_none_do_not_pass() -> None:
    broken = Detections(ONE.boxes * torch.nan, ONE.scores, ONE.labels)
    assert compare([ONE], [broken], FP32).faults != []


def test_ap_counts_in_both_directions() -> None:
    for ap in ((0.5, 0.498), (0.498, 0.5)):
        assert compare([ONE], [ONE], FP32, ap).faults == ["AP differs by 0.0020"]
    assert compare([ONE], [ONE], FP32, (0.5, 0.4995)).faults == []


def test_ap_does_not_count_where_all_scores_lie_within_the_tolerance() -> None:
    """Rounding changes the order of such detections, as in a model that has hardly been trained."""
    faint = found((10, 10, 20, 0.004, 0), (50, 50, 30, 0.003, 0))
    assert compare([faint], [faint], TOLERANCES["fp16"], (0.012, 0.009)).faults == []
    assert compare([faint], [faint], FP32, (0.012, 0.009)).faults == ["AP differs by 0.0030"]


def test_rows_become_predictions() -> None:
    rows = torch.tensor([[[1.0, 2, 30, 40, 0.75, 2], [0, 0, 0, 0, 0, 0]]])
    spoken = predictions_of_rows(rows, 4)
    assert torch.equal(decode_boxes(spoken), rows[..., :4])
    scores = spoken.logits.sigmoid()[0]
    assert scores[0].tolist() == pytest.approx([0, 0, 0.75, 0]) and scores[1].max() == 0


@each(
    ("texts", "answer"),
    [
        ({}, "was not written by det export"),
        ({"det_schema": "9"}, "has export schema 9, this version reads up to 3: update yolodet"),
        ({"det_schema": "1"}, "is damaged"),
        ({"det_schema": "what"}, "is damaged"),
    ],
)
def test_metadata_that_are_not_ours_are_refused(texts, answer, tmp_path) -> None:
    with pytest.raises(ExportError, match=answer):
        About.from_texts(texts, tmp_path / "x.onnx")
