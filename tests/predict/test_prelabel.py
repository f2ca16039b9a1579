"""``det label`` and ``det pick``: images without labels, looked at by a detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from rows import each
from yolodet import YOLO, cli
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.examine.found import Found
from yolodet.detector.examine.pick import Candidate, choose, distances, farthest_first, uncertainty

BEST = "runs/train/weights/best.safetensors"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def det(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in a folder with a run and four photos; returns its result as ``--json`` has it."""
    make_run(tmp_path, monkeypatch)
    Path("photos").mkdir()
    for number in range(4):
        assert cv2.imwrite(f"photos/{number}.png", make_image((64, 96), number))

    def run(*typed: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.main([*typed, "device=cpu", "--json"]) == code
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told["result"] if code == 0 else told

    return run


def truth(**words: Any) -> dict[str, Found]:
    """What the detector sees in the photos, by name."""
    model = YOLO(BEST)
    found = model.predict("photos", device="cpu", verbose=False, save=False, **words)
    return {result.source.path.name: Found.of(result) for result in found}


def records(data: str, split: str = "train") -> dict[str, Record]:
    scan = scan_split(load_dataset(data), split, strict=False)
    return {record.path.name: record for record in scan.records}


@each("format", ["yolo", "coco", "voc"])
def test_a_folder_of_images_becomes_a_data_set_with_the_boxes_of_the_detector(
    det: Run, format: str
) -> None:
    before = {path: path.read_bytes() for path in Path("photos").iterdir()}
    out = f"new-{format}"
    result = det("label", "data=photos", f"model={BEST}", "conf=0.2", f"out={out}",
                 f"format={format}")  # fmt: skip
    assert {path: path.read_bytes() for path in Path("photos").iterdir()} == before
    seen, written = truth(conf=0.2), records(f"{out}/data.yaml")
    assert seen.keys() == written.keys() and result["looked_at"] == 4
    limits = np.array([96, 64, 96, 64], np.float32)
    for name, found in seen.items():
        assert len(found.labels) > 1
        np.testing.assert_allclose(written[name].boxes, found.boxes.clip(0, limits), atol=0.01)
        assert written[name].labels.tolist() == found.labels.tolist()
    note = json.loads(Path(out, "prelabels.json").read_text())
    assert note["model"] == "best.safetensors" and note["conf"] == 0.2 and note["license"]
    assert note["images"]["train/0.png"] == [round(float(s), 4) for s in seen["0.png"].scores]


def write_set(names: list[str]) -> None:
    """A data set of the photos: 0 has a box, 1 is annotated as empty, 2 and 3 are not annotated."""
    Path("labels").mkdir()
    Path("labels/0.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    Path("labels/1.txt").write_text("")
    Path("photos").rename("images")
    Path("my.yaml").write_text(f"train: images\nval: images\nnames: {json.dumps(names)}\n")


def test_labels_of_people_stay_and_classes_are_matched_by_name(det: Run) -> None:
    seen = truth(conf=0.2)
    names = [str(name) for name in YOLO(BEST).names.values()]
    write_set(["mine", *reversed(names[:2])])
    det("label", "data=my.yaml", f"model={BEST}", "conf=0.2", "out=new")
    written = records("new/data.yaml")
    np.testing.assert_allclose(written["0.png"].boxes, [[36, 24, 60, 40]], atol=0.01)
    assert written["0.png"].labels.tolist() == [0] and len(written["1.png"].labels) == 0
    kept = seen["2.png"].labels
    assert written["2.png"].labels.tolist() == [2 - n for n in kept.tolist() if n < 2]
    det("label", "data=my.yaml", f"model={BEST}", "conf=0.2", "out=anew", "relabel=True")
    assert len(records("anew/data.yaml")["1.png"].labels) > 0


@each(
    ("typed", "said"),
    [
        (["label", "data=photos", "out=runs"], "out=runs exists"),
        (["label"], "name the images: det label data="),
        (["label", "data=photos", "conf=1"], "nothing is found in the images of train"),
        (["label", "data=photos", "names=a,b"], "no class has the same name"),
        (["pick", "data=photos", "n=2", "out=runs"], "out=runs exists"),
        (["pick", "data=nowhere", "n=2"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(det: Run, typed: list[str], said: str) -> None:
    told = det(*typed, f"model={BEST}", code=2)
    assert said in told["error"]
    assert not Path("labeled").exists() and not Path("picked").exists()


def test_picked_images_are_listed_as_a_split_can_name_them(det: Run) -> None:
    result = det("pick", "data=photos", "n=3", f"model={BEST}", "out=first")
    listed = Path("first/picked.txt").read_text().splitlines()
    assert listed == [str(Path(path).resolve()) for path in result["images"]]
    assert len(set(listed)) == 3 and all(Path(path).is_file() for path in listed)
    rows = Path("first/picked.csv").read_text().splitlines()
    seen = truth(conf=0.05, imgsz=None)
    first = rows[1].split(",")
    assert float(first[3]) == pytest.approx(uncertainty(seen[Path(first[1]).name].scores), abs=1e-3)
    assert cv2.imread("first/picked.jpg") is not None
    write_set(["a", "b"])
    again = det("pick", "data=my.yaml", "n=9", f"model={BEST}", "by=diversity", "out=second")
    assert sorted(Path(path).name for path in again["images"]) == ["2.png", "3.png"]
    assert again["labeled"] == 2


def test_uncertainty_is_the_entropy_of_the_scores() -> None:
    assert uncertainty(np.array([0.5, 0.5, 0.01])) == pytest.approx(2)
    assert uncertainty(np.array([0.11])) == pytest.approx(0.49992, abs=1e-4)
    assert uncertainty(np.zeros(0)) == 0


def test_the_farthest_image_comes_next_as_in_the_slow_way() -> None:
    rng = np.random.default_rng(0)
    features, known = rng.random((30, 5)), rng.random((4, 5))
    chosen = [row for row, _ in farthest_first(features, 10, known, 0)]
    centers = list(known)
    for row in chosen:
        slow = [min(float(np.linalg.norm(f - c)) for c in centers) for f in features]
        assert row == int(np.argmax(slow))
        centers.append(features[row])
    assert farthest_first(features, 3, known[:0], 7)[0][0] == 7
    np.testing.assert_allclose(distances(features[:1], features[:1]), [[0]], atol=1e-6)


def candidate(name: str, score: float, feature: list[float]) -> Candidate:
    found = Found(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), np.array([score]))
    return Candidate(Path(name), found, np.array(feature))


def test_both_chooses_among_the_uncertain_ones_those_that_are_unlike() -> None:
    sure = [candidate(f"sure{n}", 0.99, [n, 9.0]) for n in range(8)]
    doubtful = [candidate("a", 0.5, [1, 0]), candidate("b", 0.49, [1, 0.01])]
    doubtful += [candidate("c", 0.4, [0, 1]), candidate("d", 0.3, [0.7, 0.7])]
    known = np.zeros((0, 2))

    def names(by: str, count: int) -> list[str]:
        return [one.path.name for one, _ in choose([*sure, *doubtful], known, count, by)]

    assert names("uncertainty", 2) == ["a", "b"]
    assert names("both", 1) == ["a"]
    assert names("diversity", 2)[1].startswith("sure")
    pool = [*doubtful, *sure[:1]]
    assert [one.path.name for one, _ in choose(pool[:4], known, 2, "both")] == ["a", "c"]
