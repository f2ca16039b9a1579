"""``det track`` and ``YOLO.track`` from what is typed to what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from rows import each
from tracks import Counting, needs_trackers
from yolodet import YOLO, cli
from yolodet.detector.commands.track import tracker_name
from yolodet.detector.options.errors import UsageError
from yolodet.detector.predict.sources import SourceError
from yolodet.detector.track import tracking


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, a video of eight still frames and the same as images, in the current folder."""
    make_run(tmp_path, monkeypatch)
    video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 96))
    for number in range(8):
        image = make_image((96, 96), 20)
        video.write(image)
        Path("seq/img1").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"seq/img1/{number:06d}.png", image)
    video.release()
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *typed: str) -> dict:
    assert cli.main(["track", *typed, "--json", "device=cpu"]) == 0
    return json.loads(capsys.readouterr().out)["result"]


@needs_trackers
def test_a_video_gives_a_video_tracks_and_json(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "source=v.mp4", "save_json=True")
    folder = Path(found["folder"])
    assert folder.name == "track" and found["images"] == 8 and found["tracks"] > 0
    assert sorted(p.name for p in folder.iterdir()) == ["mot", "predictions.json", "v.mp4"]
    rows = np.loadtxt(folder / "mot" / "v.txt", delimiter=",")
    assert rows.shape[1] == 9 and set(rows[:, 0]) <= set(range(1, 9))
    assert set(rows[:, 1]) == set(range(1, found["tracks"] + 1)) and (rows[:, 8] == -1).all()
    read = json.loads((folder / "predictions.json").read_text())
    ids = [d["track_id"] for frame in read for d in frame["detections"]]
    assert ids == rows[:, 1].astype(int).tolist()
    assert cv2.VideoCapture(str(folder / "v.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 8


@needs_trackers
def test_a_folder_in_mot_layout_is_one_video(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "source=seq", "save_json=True")
    read = json.loads((Path(found["folder"]) / "predictions.json").read_text())
    ids = [sorted(d["track_id"] for d in frame["detections"]) for frame in read[2:]]
    assert ids[0] and all(each == ids[0] for each in ids)  # the picture does not move
    assert (Path(found["folder"]) / "mot" / "seq.txt").is_file() and found["images"] == 8
    assert told(capsys, "source=seq/img1", "save=False")["tracks"] == found["tracks"]


@needs_trackers
def test_a_model_is_measured_on_a_mot_folder(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = told(capsys, "source=seq", "save=False")
    Path("seq/gt").mkdir()
    rows = np.loadtxt(Path(made["folder"]) / "mot" / "seq.txt", delimiter=",")
    np.savetxt("seq/gt/gt.txt", np.where(np.arange(9) == 6, 1, rows), "%.9g", ",")
    found = told(capsys, "data=seq")
    assert found["all"]["HOTA"] == pytest.approx(1, abs=1e-6) and found["all"]["IDSW"] == 0
    assert [p.name for p in Path(found["folder"]).iterdir()].count("mot") == 1
    assert cli.main(["val", "data=seq", "device=cpu", "--json"]) == 0
    val = json.loads(capsys.readouterr().out)["result"]
    assert val["all"] == found["all"] and val["sequences"] == found["sequences"]
    assert cli.main(["val", "data=seq", "split=test"]) == 2
    assert "split= has no effect with data=seq, which has tracks" in capsys.readouterr().err
    with pytest.raises(UsageError, match="write det track data=seq"):
        YOLO("runs/train/weights/best.safetensors", verbose=False).val(data="seq")


@needs_trackers
def test_sequences_that_cannot_be_measured_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty/gt").mkdir(parents=True)
    Path("empty/gt/gt.txt").write_text("")
    Path("seq/gt").mkdir()
    Path("seq/gt/gt.txt").write_text("1,1,4,4,20,20\n9,1,4,4,20,20\n")
    for typed, said in (
        ("data=empty boxes=gt", "no images in img1, no seqLength and no boxes"),
        ("data=empty device=cpu", "empty/img1"),
        ("data=seq boxes=gt", "8 images, but boxes in frame 9"),
        ("data=seq boxes=det", "det/det.txt: no such file"),
    ):
        assert cli.main(["track", *typed.split()]) == 2 and said in capsys.readouterr().err
    cv2.imwrite("seq/img1/000008.png", make_image((48, 48), 8))
    Path("seq/gt/gt.txt").write_text("1,1,4,4,20,20\n")
    assert cli.main(["track", "data=seq", "boxes=gt"]) == 2
    assert "images of a sequence must all have the same size" in capsys.readouterr().err


def test_persist_keeps_the_tracker_between_single_frames(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodet.detector.commands.track.find_spec", lambda name: name)
    monkeypatch.setattr(tracking.Tracking.__init__, "__defaults__", (False, Counting))
    Counting.made = 0
    model = YOLO("runs/train/weights/best.safetensors", verbose=False)
    frame = make_image((96, 96), 20)
    for _ in range(3):
        result = model.track(frame, persist=True, conf=0.2, device="cpu")[0]
    assert Counting.made == 1
    assert result.boxes.is_track and result.boxes.id.int().tolist()
    assert result.plot().shape == frame.shape and not result.trails
    assert len(list(model.track("v.mp4", stream=True, tracker="botsort.yaml", conf=0.2))) == 8
    assert Counting.made == 2
    model.track(frame, persist=True, tracker="ocsort")
    assert Counting.made == 3  # other options begin anew
    assert not Path("runs/track").exists()
    with pytest.raises(UsageError, match="command line"):
        model.track(frame, data="seq")


def test_without_the_package_one_line_names_the_extra_before_torch_is_needed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yolodet.detector.commands.track.find_spec", lambda name: None)
    assert cli.main(["track", "source=v.mp4"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "pip install 'yolodet[track]'" in said[0]


@each(
    ("typed", "said"),
    [
        ("source=v.mp4 tracker=bytetrak", "did you mean 'bytetrack'"),
        ("source=v.mp4 tracker=mine.yaml", "det reads no file of a tracker"),
        ("source=v.mp4 tracker=sort track_high_thresh=0.5", "no effect with tracker=sort"),
        ("source=v.mp4 tracker=ocsort new_track_thresh=0.5", "no effect with tracker=ocsort"),
        ("source=v.mp4 boxes=gt", "add data=FOLDER"),
        ("source=v.mp4 data=seq", "exclude each other"),
        ("data=seq results=x boxes=gt", "exclude each other"),
        ("data=nowhere", "no such folder"),
        ("save=True", "det track source=street.mp4"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, said: str
) -> None:
    monkeypatch.setattr("yolodet.detector.commands.track.find_spec", lambda name: name)
    assert cli.main(["track", *typed.split()]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_names_of_trackers_as_others_write_them() -> None:
    for text in ("bytetrack", "ByteTrack", "bytetrack.yaml"):
        assert tracker_name(text) == "bytetrack"
    assert tracker_name("botsort.yml") == "botsort"


def test_a_camera_that_ends_is_said_and_its_tracks_are_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodet.detector.commands.track.find_spec", lambda name: name)
    monkeypatch.setattr(tracking.Tracking.__init__, "__defaults__", (False, Counting))
    monkeypatch.setattr("yolodet.detector.predict.video._open", lambda n: cv2.VideoCapture("v.mp4"))
    model = YOLO("runs/train/weights/best.safetensors", verbose=False)
    with pytest.raises(SourceError, match="gives no more frames"):
        model.track(0, save_mot=True, conf=0.2, device="cpu")
    assert Path("runs/track/mot/camera-0.txt").read_text().splitlines()[-1].startswith("8,")
