"""log= and det.yaml: what a tracker gets, when, and that it cannot harm a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import rows_of, same, saved, train
from yolodet import cli
from yolodet.detector.options.errors import UsageError
from yolodet.detector.record import tools, tracker
from yolodet.detector.record.git import revision
from yolodet.detector.record.tracker import Tracker, name_of
from yolodet.detector.run.observer import Epoch, Started

pytestmark = pytest.mark.usefixtures("tiny_models")


class Kept(Tracker):
    """A tool that keeps what it gets, and fails while ``broken``."""

    tool = "kept"

    def __init__(self, broken: bool = False) -> None:
        super().__init__(lambda line: None)
        self.broken, self.tries = broken, 0
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.facts: Mapping[str, Any] = {}
        self.pictures: list[str] = []
        self.ended: Any = None
        self.continued: str | None = None

    def _work(self) -> None:
        self.tries += 1
        if self.broken:
            raise ConnectionError("the server is away")

    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        self._work()
        self.facts, self.continued = facts, identity
        return identity or "run 7"

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        self._work()
        self.seen.append((epoch, dict(values)))

    def picture(self, name: str, path: Path, epoch: int) -> None:
        self.pictures.append(name)

    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        self.ended = (results, best)


def numbers_of(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The numbers of results.csv as text."""
    left_out = ("epoch", "precision")
    return [{k: v for k, v in row.items() if k not in left_out and v != "nan"} for row in rows]


def as_text(seen: list[tuple[int, dict[str, float]]]) -> list[dict[str, str]]:
    added = ("memory_gib",)
    return [
        {k: f"{v:.6g}" for k, v in values.items() if k not in added and not k.startswith("ap/")}
        for _, values in seen
    ]


def test_a_tracker_gets_the_numbers_of_results_csv_the_pictures_and_where_the_run_comes_from(
    squares: Path, tmp_path: Path
) -> None:
    kept = Kept()
    train(squares, tmp_path, epochs=2, plots=True, observers=[kept])
    assert [epoch for epoch, _ in kept.seen] == [1, 2]
    assert as_text(kept.seen) == numbers_of(rows_of(tmp_path / "train"))
    assert "ap/square" in kept.seen[-1][1] and kept.seen[-1][1]["memory_gib"] > 0
    assert kept.pictures[:2] == ["labels", "train_batch"] and "confusion_matrix" in kept.pictures
    assert kept.facts["data_train_images"] == 8 and len(kept.facts["data_val_sha256"]) == 64
    results, best = kept.ended
    assert results["epochs"] == 2 and best == tmp_path / "train" / "weights" / "best.safetensors"


def test_a_resumed_run_continues_the_run_of_the_tool_and_a_new_tool_gets_the_earlier_epochs(
    squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path, epochs=2, observers=[Kept()])
    same_tool, other = Kept(), Kept()
    other.tool = "other"
    train(squares, tmp_path, resume=str(tmp_path / "train"), epochs=4, observers=[same_tool, other])
    assert same_tool.continued == "run 7" and [e for e, _ in same_tool.seen] == [3, 4]
    assert other.continued is None and [e for e, _ in other.seen] == [1, 2, 3, 4]
    assert as_text(other.seen) == numbers_of(rows_of(tmp_path / "train"))


def test_a_trial_is_called_by_its_search_too() -> None:
    assert name_of(Path("runs/train")) == "train"
    assert name_of(Path("runs/tune/trials/003")) == "tune/003"
    assert name_of(Path("runs/tune/closing/best-seed1")) == "tune/best-seed1"


def test_a_tool_that_comes_back_gets_what_it_missed_and_is_left_alone_in_between(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [100.0]
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now[0])
    kept = Kept()
    kept.started(Started(tmp_path, {}, "m", "d", 0, 9, 2, {}))

    def fail() -> None:
        kept.tries += 1
        now[0] += 2.0
        raise ConnectionError

    def row(epoch: int) -> Epoch:
        return Epoch(epoch, 9, {"epoch": epoch, "lr": 0.1 * epoch}, [{"epoch": epoch}], False, 0.5)

    kept._work = fail  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        kept.epoch(row(1))
    tries = kept.tries
    now[0] += 19.0
    kept.epoch(row(2))
    assert kept.tries == tries  # it had failed for two seconds, less than twenty ago
    del kept._work
    now[0] += 2.0
    kept.epoch(row(3))
    assert [(e, round(v["lr"], 9)) for e, v in kept.seen] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_tool_that_fails_is_reported_once_and_the_weights_are_the_same(
    squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path / "without", epochs=2)
    train(squares, tmp_path / "with", epochs=2, observers=[Kept(broken=True)])
    assert same(saved(tmp_path / "with" / "train"), saved(tmp_path / "without" / "train"))
    text = (tmp_path / "with" / "train" / "log.txt").read_text()
    assert text.count("WARNING: observer Kept failed: ConnectionError: the server is away") == 1


def test_words_of_log_are_checked_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tools.tools_of("WandB, json,wandb") == ("wandb", "json")
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        tools.check_log("tensorbord")
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"log=mlflow needs the package mlflow: pip install"):
        tools.check_log("json,mlflow")


# ---------------------------------------------------------------- the command line

WORDS = ("device=cpu", "imgsz=64", "batch=4", "workers=0", "plots=False", "amp=False")


def test_json_events_are_all_that_is_on_stdout(
    squares: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", f"data={squares}", "epochs=2", "log=json", *WORDS]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [event.get("event") for event in events]
    assert names[0] == "started" and names[-2:] == ["finished", None]
    assert [e["row"]["epoch"] for e in events if e.get("event") == "epoch"] == [1, 2]
    assert events[-1]["ok"] and events[-1]["result"]["epochs"] == 2
    assert events[-2]["results"]["metrics"] == events[-1]["result"]["metrics"]


def test_an_error_of_a_streamed_run_is_a_line_of_json(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "data=absent.yaml", "log=json"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_det_yaml_gives_defaults_that_are_printed_and_yield_to_cfg_and_to_what_is_typed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("det.yaml").write_text("log: json\nepochs: 7\nbatch: 4\nconf: 0.4\n")
    Path("options.yaml").write_text("batch: 8\n")

    def config(*words: str) -> str:
        assert cli.main(["config", "train", *words]) == 0
        return capsys.readouterr().out

    text = config("cfg=options.yaml", "epochs=9")
    for line in ("log: json ", "epochs: 9 ", "batch: 8 "):
        assert f"\n{line}" in text
    assert cli.main(["train", "data=absent.yaml"]) == 2
    told = capsys.readouterr()
    assert "absent.yaml" in json.loads(told.out)["error"]  # log=json is obeyed


def test_det_yaml_of_sections_and_with_errors(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("det.yaml").write_text("train:\n  epochs: 7\nval:\n  batch: 3\n")
    assert cli.main(["config", "train"]) == 0 and "\nepochs: 7 " in capsys.readouterr().out
    Path("det.yaml").write_text("epoch: 7\n")
    assert cli.main(["train", "data=absent.yaml"]) == 2
    assert "det.yaml: unknown option 'epoch': did you mean 'epochs'" in capsys.readouterr().err
    Path("det.yaml").write_text("train: images\nval: images\nnames: [a]\n")  # a data set
    assert cli.main(["config", "train"]) == 0


def test_what_det_yaml_gives_is_printed(
    squares: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("det.yaml").write_text(f"epochs: 1\nproject: elsewhere\ndata: {squares}\nbatch: 2\n")
    assert cli.main(["train", *WORDS]) == 0
    told = capsys.readouterr().err
    assert f"det.yaml: epochs=1, project=elsewhere, data={squares}\n" in told  # batch was typed
    assert Path("elsewhere/train/results.json").is_file()

    assert cli.main(["train", "resume=elsewhere/train", "epochs=2"]) == 0
    assert "det.yaml" not in capsys.readouterr().err


# ---------------------------------------------------------------- git, read without git


def test_the_revision_of_branches_packed_refs_worktrees_and_detached_heads(tmp_path: Path) -> None:
    one, two = "1" * 40, "2" * 40
    git = tmp_path / "repo" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    inside = tmp_path / "repo" / "deep" / "er"
    inside.mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{one} refs/heads/main\n")
    assert revision(inside) == one
    (git / "refs" / "heads" / "main").write_text(f"{two}\n")
    assert revision(inside) == two
    linked = git / "worktrees" / "w"
    linked.mkdir(parents=True)
    (linked / "HEAD").write_text("ref: refs/heads/main\n")
    (linked / "commondir").write_text("../..\n")
    work = tmp_path / "w"
    work.mkdir()
    (work / ".git").write_text(f"gitdir: {linked}\n")
    assert revision(work) == two
    (linked / "HEAD").write_text(f"{one}\n")
    assert revision(work) == one
    (linked / "HEAD").write_text("ref: ../../../etc/passwd\n")
    assert revision(work) is None and revision(tmp_path) is None
