"""``det verify``: whether a run folder holds what the training made that it tells of.

Four questions, each answered by bytes: are the weights those that training wrote, are the data
those of the run, do the recorded steps give the same weights again, and does the validation give
the same numbers again.  What differs in the machine is named: it may be the reason, and is no
proof of anything else.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...files.counted import counted
from ...files.errors import DetError
from ...files.json_text import read_note
from ...files.regular import read_regular
from ...files.text import one_line
from ...weights.checkpoint import CheckpointError, digest_of, load_state, load_weights
from ..checkpoints.restore import restore
from ..options.parse import parse
from ..options.train import TrainConfig
from ..options.verify import VerifyConfig
from ..precision.precision import Precision
from ..run.data_place import read_place
from ..run.files import cell, plain
from ..run.folder import BEST, LAST, RunNotFound, newest_run
from ..run.log import Log
from ..train.assemble import assemble
from ..train.budget import PROBE
from ..train.checksums import CHECKSUMS, read_checksums, sum_of_row, where
from ..train.evaluator import CocoEvaluator
from .replay import Replayed, options_from, replay, replay_words

WHY = {
    "threads": "a sum that is split among another number of threads is rounded otherwise",
    "processor": "another processor may add in another order",
    "device": "another device adds in another order",
    "torch": "another version may compute in another order",
    "torchvision": "another version may compute in another order",
    "opencv": "another version may decode or scale images otherwise",
    "numpy": "another version may compute otherwise",
    "cuda": "another version may choose other kernels",
    "cudnn": "another version may choose other kernels",
    "det": "another version may train otherwise",
}
"""What a run records of its machine, and why bytes may depend on it."""

WORDS = {True: "equal", False: "NOT EQUAL", None: "not compared"}


@dataclass(frozen=True)
class Check:
    """equal: None where nothing could be compared.  told: what was compared, or what differs."""

    name: str
    equal: bool | None
    told: str


@dataclass
class Verification:
    """What was found.  differs: of the machine, in words."""

    folder: Path
    checks: list[Check] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether something was replayed, and all that was compared is equal."""
        replayed = any(check.equal for check in self.checks if check.name in REPLAYED)
        return replayed and all(check.equal is not False for check in self.checks)

    def __bool__(self) -> bool:
        return self.equal

    @property
    def verdict(self) -> str:
        """One sentence."""
        wrong = [check.name for check in self.checks if check.equal is False]
        others = "; ".join(self.differs)
        if self.equal:
            return "equal, bit for bit" + (f", although this differs: {others}" if others else "")
        if not wrong:
            return "nothing could be replayed, so nothing is proven"
        said = f"not equal: {', '.join(wrong)}"
        if others and not set(wrong) & {"weights", "data", "results.csv"}:
            said += f"; that alone proves nothing against the run, for this differs: {others}"
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        checks = [asdict(check) for check in self.checks]
        told = {"run": str(self.folder), "equal": self.equal, "checks": checks}
        return {**told, "differs": self.differs, "verdict": self.verdict}

    def __str__(self) -> str:
        """The run, a line per check and difference, and the verdict."""
        lines = [f"{one.name:<12} {WORDS[one.equal]:<13} {one.told}" for one in self.checks]
        lines += [f"differs      {line}" for line in self.differs]
        return "\n".join(map(one_line, (str(self.folder), *lines, self.verdict)))


REPLAYED = ("steps", "kept steps", "validation")
"""Checks that compute something again."""


def find_checksums(config: VerifyConfig) -> tuple[Path, dict[str, Any]]:
    """The run folder and its checksums.  Raises RunNotFound."""
    folder = Path(config.run) if config.run else newest_run(config.project, Path(CHECKSUMS))
    facts = read_checksums(folder)
    if facts is None:
        several = sorted(path.parent for path in folder.glob(f"*/{CHECKSUMS}"))
        named = f"; name one of its runs, e.g. {several[0]}" if several else ""
        raise RunNotFound(
            f"{folder} has no {CHECKSUMS} that can be read: det verify needs a run folder of "
            f"det train (older versions wrote none){named}"
        )
    return folder, facts


def verify(config: VerifyConfig, log: Log) -> Verification:
    """Compare and replay; writes nothing into the run folder."""
    folder, facts = find_checksums(config)
    found, quiet = Verification(folder), Log(verbose=False, bare=True)
    quiet.mute = True
    found.checks += [check_weights(folder, facts), check_rows(folder, facts)]
    for start in facts["starts"]:
        with log.progress("replaying", 0):
            check_steps(found, facts, start, config, quiet)
    if not any(check.name == "data" for check in found.checks):
        found.checks.append(Check("data", None, "no start could be read, so they are not compared"))
    with log.progress("validating", 0):
        check_validation(found, facts, config, quiet)
    found.differs = list(dict.fromkeys(found.differs))
    return found


def check_weights(folder: Path, facts: Mapping[str, Any]) -> Check:
    """Whether each file of weights is the one that was recorded."""
    seen, wrong = [], []
    for name, known in sorted(facts["files"].items()):
        if not (folder / name).is_file():
            continue
        seen.append(Path(name).name)
        try:
            if digest_of(load_weights(folder / name)[0]) != known:
                wrong.append(f"{name} is not the file that training wrote")
        except CheckpointError as error:
            wrong.append(str(error))
    if (folder / LAST).is_file() and facts["epochs"]:
        seen.append(LAST.name)
        wrong += _check_last(folder / LAST, facts)
    if wrong or not seen:
        return Check("weights", False if wrong else None, "; ".join(wrong) or "none are there")
    return Check("weights", True, f"{', '.join(seen)}: as training wrote them")


def _check_last(path: Path, facts: Mapping[str, Any]) -> list[str]:
    try:
        state = load_state(path)
        position = state["position"]
        known = {entry["epoch"]: entry["weights"] for entry in facts["epochs"]}
        wanted = known.get(position["epoch"])
        inside = position["batch"]  # in the middle of an epoch no sum is taken
        same = inside or wanted is None or digest_of(state["model"]) == wanted
    except (CheckpointError, LookupError, TypeError, AttributeError) as error:
        return [f"{path.name}: {error}"]
    return [] if same else [f"{LAST} has other weights than training had after its last epoch"]


def check_rows(folder: Path, facts: Mapping[str, Any]) -> Check:
    """Whether results.csv has the lines that training wrote."""
    try:
        rows = read_rows(folder)
    except OSError as error:
        return Check("results.csv", False, f"results.csv: {error.strerror or error}")
    known = {str(entry["epoch"]): entry["row"] for entry in facts["epochs"]}
    if known and len(rows) != facts["epochs"][-1]["epoch"]:
        lines, wanted = counted(len(rows), "line"), facts["epochs"][-1]["epoch"]
        return Check("results.csv", False, f"has {lines}, training wrote {wanted}")
    epochs = {row.get("epoch", ""): sum_of_row(row) for row in rows}
    wrong = [epoch for epoch, wanted in known.items() if epochs.get(epoch) != wanted]
    if wrong:
        which = ", ".join(wrong[:5])
        return Check("results.csv", False, f"epoch {which}: not the line that training wrote")
    return Check("results.csv", True, f"{counted(len(rows), 'line')} as training wrote them")


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The lines of results.csv."""
    text = read_regular(folder / "results.csv").decode("utf-8", "replace")
    return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(io.StringIO(text))]


def check_steps(
    found: Verification,
    facts: Mapping[str, Any],
    start: Mapping[str, Any],
    config: VerifyConfig,
    log: Log,
) -> None:
    """Replay from one start."""
    name = "steps" if start["file"] is None else "kept steps"
    session, until = session_of(facts, start["epoch"])
    epochs = min(config.epochs, until - start["epoch"])
    recorded = list(start["steps"])
    if start.get("config", {}).get("time") is not None:  # its length is estimated anew
        recorded, epochs = [step for step in recorded if step["batch"] <= PROBE], 0
    if why := not_replayed(session, recorded, epochs):
        found.checks.append(Check(name, None, why))
        return
    place = read_place(found.folder)
    with reporting(found, name):
        words = replay_words(config, place, session)
        again = replay(found.folder, {**start, "steps": recorded}, words, epochs, log)
        found.differs += differences(session["where"], again.where)
        if place is not None and not any(check.name == "data" for check in found.checks):
            found.checks.append(check_data(place, again))
        known = {entry["epoch"]: entry for entry in facts["epochs"]}
        found.checks.append(compare_steps(name, {**start, "steps": recorded}, known, again))


@contextlib.contextmanager
def reporting(found: Verification, name: str) -> Iterator[None]:
    """A replay that cannot be done is a check that says why."""
    try:
        yield
    except DetError as error:
        found.checks.append(Check(name, None, f"cannot be replayed: {error}"))


def session_of(facts: Mapping[str, Any], epoch: int) -> tuple[Mapping[str, Any], int]:
    """The session of the run in which the step after ``epoch`` was done, and the last epoch that it
    finished: what a run is resumed with may differ."""
    sessions = facts["sessions"]
    begun = [s for s in sessions if (s["epoch"], s["batch"]) <= (epoch, 0)] or sessions[:1]
    later = [s["epoch"] for s in sessions if (s["epoch"], s["batch"]) > (epoch, 0)]
    last = max((entry["epoch"] for entry in facts["epochs"]), default=0)
    return begun[-1], min([last, *later])


def not_replayed(session: Mapping[str, Any], steps: Sequence[Any], epochs: int) -> str:
    """Why steps cannot be replayed; "" where they can."""
    ranks = session["where"]["ranks"]
    if ranks > 1:
        return f"the run had {ranks} ranks, whose sums one process does not repeat"
    return "" if steps or epochs else "the run ended before a step was recorded"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is another machine, version or number of threads than the run had, and what follows."""
    return [
        f"{name} {then.get(name)} then, {now[name]} now ({why})"
        for name, why in WHY.items()
        if then.get(name) != now[name]
    ]


def check_data(place: Any, again: Replayed) -> Check:
    """Whether the data are those of the run."""
    dataset, scans = again.data
    told = []
    for scan in scans:
        if change := place.change(scan.split, dataset, scan):
            told.append(change)
        elif changed := place.changed_images(scan.split, dataset, scan.records):
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            told.append(f"{scan.split}: other files: {', '.join(changed[:3])}{more}")
    if told:
        return Check("data", False, "; ".join(told))
    images = " and ".join(f"{len(scan.records)} of {scan.split}" for scan in scans)
    return Check("data", True, f"images and labels as when the run began ({images})")


def compare_steps(
    name: str, start: Mapping[str, Any], known: Mapping[int, Mapping[str, Any]], again: Replayed
) -> Check:
    """Whether replayed steps and epochs have the recorded sums; names the first that has not."""
    origin = "the seed" if start["file"] is None else f"{start['file']} (epoch {start['epoch']})"
    if start["file"] is None and again.first != start["weights"]:
        return Check(name, False, "the weights that the run starts from are others")
    new = {step["batch"]: step for step in again.steps}
    for wanted in start["steps"]:
        at = f"batch {wanted['batch']} of epoch {start['epoch'] + 1}"
        step = new.get(wanted["batch"])
        if step is None:
            return Check(name, False, f"{at} does not come: an epoch has fewer batches")
        for part, loss in wanted["losses"].items():
            if step["losses"].get(part) != loss:
                now = step["losses"].get(part)
                return Check(name, False, f"{at}: {part} loss {loss} then, {now} now")
        if step["weights"] != wanted["weights"]:
            return Check(name, False, f"{at}: the losses are equal, the weights after it are not")
    for entry in again.epochs:
        wanted = known[entry["epoch"]]
        for what in ("weights", "average"):
            if entry[what] != wanted[what]:
                return Check(name, False, f"epoch {entry['epoch']}: its {what} is not the same")
    done = [counted(len(start["steps"]), "update")] if start["steps"] else []
    done += [counted(len(again.epochs), "epoch")] if again.epochs and known else []
    return Check(name, True, f"{' and '.join(done)} from {origin}: same losses, same weights")


def check_validation(
    found: Verification, facts: Mapping[str, Any], config: VerifyConfig, log: Log
) -> None:
    """Measure the best weights again, and compare with results.json and results.csv."""
    folder, name, session = found.folder, "validation", facts["sessions"][-1]
    results = read_note(folder / "results.json")
    if facts["evaluator"] != CocoEvaluator.__name__:
        told = f"measured by {facts['evaluator']}, which the caller of the training gave"
        found.checks.append(Check(name, None, told))
        return
    if not (folder / BEST).is_file() or not isinstance(results.get("metrics"), dict):
        found.checks.append(Check(name, None, f"there is no {BEST}, or no results.json"))
        return
    with reporting(found, name):
        place = read_place(folder)
        saved = asdict(parse(TrainConfig, {"cfg": str(folder / "args.yaml")})[0])
        options = options_from(saved, replay_words(config, place, session))
        model, meta = restore(folder / BEST)
        run = assemble(options, log, meta)
        with contextlib.closing(run):
            found.differs += differences(session["where"], where(run))
            precision = Precision(meta.precision, run.device.type, "as in the run")
            measured = CocoEvaluator(options.best)(model.to(run.device), precision, run, log)
        row = {f"val/{key}_loss": value for key, value in measured.losses.items()}
        row |= {f"metrics/{key}": value for key, value in measured.columns.items()}
        wrong = unequal(results["metrics"], json.loads(json.dumps(plain(measured.metrics))))
        if options.save_dtype == "fp32":  # or the row is of weights that were not rounded yet
            lines = [line for line in read_rows(folder) if line.get("epoch") == str(meta.epoch)]
            shown = {key: cell(value) for key, value in row.items()}
            wrong += [f"results.csv {told}" for line in lines for told in unequal(line, shown)]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            found.checks.append(Check(name, False, "; ".join(wrong[:3]) + more))
            return
        ap = measured.metrics.get("map")
        told = "" if ap is None else f"AP {ap:.3f} and "
        told += f"{counted(len(measured.metrics), 'number')} and tables of results.json"
        found.checks.append(Check(name, True, f"{told} from the best weights (epoch {meta.epoch})"))


def unequal(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of ``now`` that have another value in ``then``, with both."""
    return [
        f"{name} {_brief(then.get(name))} then, {_brief(value)} now"
        for name, value in now.items()
        if then.get(name) != value
    ]


def _brief(value: Any) -> str:
    return "a table" if isinstance(value, list | dict) else str(value)
