"""Run folders: one per run, found to be possible before anything else is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from yolodet.detector.commands.predict import check_predict
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.options.val import ValConfig
from yolodet.detector.run.check import check_common, check_data
from yolodet.detector.run.folder import new_run_folder


def test_runs_that_start_together_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has looked, and has seen no folder."""
    monkeypatch.setattr(Path, "exists", lambda *_, **__: False)
    config = ValConfig(project=str(tmp_path / "runs"))
    names = [new_run_folder(config, "val").name for _ in range(3)]
    assert names == ["val", "val-2", "val-3"]
    again = ValConfig(project=config.project, exist_ok=True)
    assert new_run_folder(again, "val").name == "val"


def test_a_file_in_the_way_is_never_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "val").write_text("mine")
    assert new_run_folder(ValConfig(project=str(tmp_path)), "val").name == "val-2"
    with pytest.raises(FileExistsError, match="val"):
        new_run_folder(ValConfig(project=str(tmp_path), exist_ok=True), "val")


def test_a_project_that_cannot_be_made_is_refused_and_one_that_can_leaves_no_trace(
    tmp_path: Path,
) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "gone")
    for place in ("/proc/runs", str(tmp_path / "nowhere"), str(tmp_path / "nowhere" / "runs")):
        with pytest.raises(UsageError, match=f"project={place}: cannot write in"):
            check_common(TrainConfig(project=place))
    check_common(TrainConfig(project=str(tmp_path / "new" / "runs")))
    assert [path.name for path in tmp_path.iterdir()] == ["nowhere"]


def test_who_writes_no_files_needs_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolodet.detector.commands.predict.find_trained", lambda config: config)
    check_predict(PredictConfig(project="/proc/runs", save=False))
    with pytest.raises(UsageError, match="project="):
        check_predict(PredictConfig(project="/proc/runs", save=False, save_txt=True))


def test_a_check_of_data_that_can_be_had_neither_fetches_nor_draws(place: Path) -> None:
    """Also where a data set is named without the ending of its YAML."""
    text = "train: a\nval: b\nnames: [x]\ndownload: https://example.org/my.zip\n"
    Path("my.yaml").write_text(text)
    for data, online in (("my", True), ("shapes", False), ("coco8", True), ("coco8", False)):
        check_data(data, online=online)
    assert not (place / "cache").exists()
