"""Accuracy of the trained detector: ours and, given its python, the peer's, on equal work.

    python benchmarks/accuracy.py --data ../shared/data/bccd/bccd.yaml --epochs 100 --seeds 0 1 2
        [--imgsz 320 --batch 16 --amp True False --jobs 1 --out docs/benchmarks/accuracy-bccd]
        [--peer ~/.cache/det-peers/bin/python --peer-seeds 0] [--reach 0.551] [--shared]

Each run is a `det train` of its own with the shipped defaults, then `det val` of its best weights
on val and test through both heads.  Runs that are finished in --work are not repeated.  --jobs N
trains N at a time, each pinned to its share of the cores (right for accuracy, not for speed).

Both trainers are timed in the same way: the clock starts with the command and is read at each new
row of results.csv, so imports, set-up, validation and checkpoints are included.  --reach AP adds
the time at which a run's validation first reached that AP.  The times are stored beside the run; a
run without them is timed by its own results.csv, without set-up, and marked. Writes OUT.json,
OUT.md and OUT.png (AP against epoch and against seconds).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from children import DET
from matplotlib.figure import Figure
from yolodet.detector.run.folder import is_finished

HEADS = {"NMS-free": "False", "NMS": "True"}
CLOCK = "clock.json"


def main() -> None:
    options = read_options()
    work = Path(options.work)
    runs = list(itertools.product(options.seeds, options.amp))
    cores = sorted(os.sched_getaffinity(0))
    shares = [set(cores[i :: options.jobs]) for i in range(options.jobs)]
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(train_ours, options, work, seed, amp, shares[i % options.jobs])
            for i, (seed, amp) in enumerate(runs)
        ]
        rows = [job.result() for job in jobs]
    if options.peer:
        seeds = options.peer_seeds or options.seeds[:1]
        rows += [train_peer(options, work, seed) for seed in seeds]
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    out.with_suffix(".md").write_text(as_markdown(options, rows))
    panels = ("epoch",) if options.shared else ("epoch", "epoch_seconds")
    plot(rows, panels, out.with_suffix(".png"))
    print(out.with_suffix(".md").read_text())


def read_options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--model", default="yolo26n")
    p.add_argument("--epochs", type=int, default=100)
    p.add_argument("--imgsz", type=int, default=320)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--amp", nargs="+", default=["True"])
    p.add_argument("--splits", nargs="+", default=["val", "test"])
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--peer", help="python of an environment that has ultralytics")
    p.add_argument("--peer-seeds", type=int, nargs="+", help="default: the first of --seeds")
    p.add_argument("--shared", action="store_true", help="the machine is shared: report no times")
    p.add_argument("--reach", type=float, nargs="+", default=[], help="APs to time")
    p.add_argument("--work", default="runs/accuracy")
    p.add_argument("--out", default="docs/benchmarks/accuracy")
    return p.parse_args()


def train_ours(
    options: argparse.Namespace, work: Path, seed: int, amp: str, cores: set[int]
) -> dict[str, Any]:
    """One run and its measurements."""
    name = f"{options.model}-e{options.epochs}-s{seed}-amp{amp}"
    folder = work / name
    if not is_finished(folder):
        words = {
            "model": options.model, "data": options.data, "epochs": options.epochs, "seed": seed,
            "imgsz": options.imgsz, "batch": options.batch, "amp": amp, "project": work,
            "name": name, "exist_ok": True, "plots": False, "patience": 0,
        }  # fmt: skip
        command = [*DET, "train", *(f"{k}={v}" for k, v in words.items())]
        timed(command, folder / "results.csv", folder / CLOCK, cores)
    rows = list(csv.DictReader((folder / "results.csv").open()))
    results = json.loads((folder / "results.json").read_text())
    measured = {
        f"{split} {head}": validate(options, folder, split, head, cores)
        for split in options.splits
        for head in HEADS
    }
    return {
        "who": f"ours, amp={amp}",
        "seed": seed,
        "precision": results["precision"]["name"],
        "seconds": results["train_seconds"],
        "measured": measured,
        "epoch_ap": [float(row["metrics/map"]) for row in rows],
        **read_clock(folder / CLOCK, rows),
    }


def timed(command: list[str], table: Path, clock: Path, cores: set[int]) -> str:
    """Run ``command`` on ``cores`` and note in ``clock`` when ``table`` got each of its rows.
    Returns its stdout."""
    table.unlink(missing_ok=True)  # of a run that was given up
    seconds: list[float] = []
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as talk:
        process = subprocess.Popen(
            command, stdout=out, stderr=talk, env={**os.environ, "YOLO_OFFLINE": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(0.1)
            rows = table.read_text().count("\n") - 1 if table.exists() else 0
            seconds += [round(time.monotonic() - started, 1)] * (rows - len(seconds))
        if process.returncode:
            talk.seek(0)
            raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{talk.read()[-2000:]}")
        clock.write_text(json.dumps({"clock": "command", "epoch_seconds": seconds}))
        out.seek(0)
        return out.read()


def read_clock(clock: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """When each epoch ended, and which clock measured it."""
    if clock.exists():
        return json.loads(clock.read_text())
    return {"clock": "results.csv", "epoch_seconds": [float(row["time"]) for row in rows]}


def validate(
    options: argparse.Namespace, folder: Path, split: str, head: str, cores: set[int]
) -> list[float]:
    """[AP, AP50] of a run's best weights."""
    name = f"val-{split}-{head}"
    found = folder / name / "results.json"
    words = [
        f"model={folder / 'weights' / 'best.safetensors'}", f"data={options.data}",
        f"split={split}", f"nms={HEADS[head]}", "plots=False", f"project={folder}", "exist_ok=True",
        f"name={name}",
    ]  # fmt: skip
    if not found.exists():
        det(["val", *words], cores)
    metrics = json.loads(found.read_text())["metrics"]
    return [metrics["map"], metrics["map_50"]]


def det(words: list[str], cores: set[int]) -> None:
    """Run a command of det on ``cores``."""
    done = subprocess.run(
        [*DET, *words],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"det {' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")


PEER = """
import json, sys, time
from ultralytics import YOLO
data, model, epochs, imgsz, batch, seed, project = sys.argv[1:]
started = time.time()
y = YOLO(model + ".yaml")
y.train(data=data, epochs=int(epochs), imgsz=int(imgsz), batch=int(batch), seed=int(seed),
        project=project, name="r", exist_ok=True, plots=False, verbose=False, device="cpu")
seconds = time.time() - started
best = YOLO(project + "/r/weights/best.pt")
out = {}
for split in ("val", "test"):
    for head, nms in (("NMS-free", False), ("NMS", True)):
        m = best.val(data=data, split=split, imgsz=int(imgsz), nms=None if nms else False,
                     plots=False, verbose=False, device="cpu", project=project, name="v",
                     exist_ok=True)
        out[f"{split} {head}"] = [float(m.box.map), float(m.box.map50)]
print("PEER" + json.dumps({"seconds": seconds, "measured": out}))
"""


def train_peer(options: argparse.Namespace, work: Path, seed: int) -> dict[str, Any]:
    """The peer with its own defaults on the same data, as a program of its own."""
    project = (work / f"peer-e{options.epochs}-s{seed}").resolve()
    cached = project / "peer.json"
    if not cached.exists():
        arguments = [str(Path(options.data).resolve()), options.model, str(options.epochs)]
        arguments += [str(options.imgsz), str(options.batch), str(seed), str(project)]
        project.mkdir(parents=True, exist_ok=True)
        cores = set(os.sched_getaffinity(0))
        command = [options.peer, "-c", PEER, *arguments]
        talk = timed(command, project / "r" / "results.csv", project / CLOCK, cores)
        line = next(x for x in talk.splitlines() if x.startswith("PEER"))
        cached.write_text(line.removeprefix("PEER"))
    result = json.loads(cached.read_text())
    rows = list(csv.DictReader((project / "r" / "results.csv").open()))
    return {
        "who": "Ultralytics 8.4.190",
        "seed": seed,
        "precision": "fp32",
        "epoch_ap": [float(row["metrics/mAP50-95(B)"]) for row in rows],
        **read_clock(project / CLOCK, rows),
        **result,
    }


def as_markdown(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with each seed's number behind."""
    title = f"# {options.model} from scratch on {Path(options.data).stem}"
    work = f"{options.epochs} epochs, imgsz {options.imgsz}, batch {options.batch}, defaults"
    lines = [title, "", work, "", "| who | measured | AP | seeds | AP50 |", "|---|---|---|---|---|"]
    for who, group in itertools.groupby(sorted(rows, key=lambda r: r["who"]), lambda r: r["who"]):
        members = list(group)
        for key in members[0]["measured"]:
            aps = [row["measured"][key][0] for row in members]
            ap50 = statistics.mean(row["measured"][key][1] for row in members)
            seeds = ", ".join(f"{ap:.4f}" for ap in aps)
            lines.append(f"| {who} | {key} | {statistics.mean(aps):.4f} | {seeds} | {ap50:.4f} |")
        for reach in [] if options.shared else [*options.reach, None]:
            times = ", ".join(show_time(row, reach) for row in members)
            what = f"to val AP {reach:g}" if reach else f"of all {options.epochs} epochs"
            lines.append(f"| {who} | seconds {what} | | {times} | |")
    if options.shared:
        lines += ["", "Other programs ran beside these, so they are not timed."]
        return "\n".join(lines) + "\n"
    lines += ["", "Seconds are counted from the start of the command, validation included."]
    if any(row["clock"] != "command" for row in rows):
        lines.append("Those with a star are without set-up: the sum that results.csv keeps.")
    return "\n".join(lines) + "\n"


def show_time(row: dict[str, Any], reach: float | None) -> str:
    """Seconds until an epoch's validation first showed the AP ``reach``, or until the last one."""
    star = "" if row["clock"] == "command" else "*"
    ends = list(zip(row["epoch_seconds"], row["epoch_ap"], strict=False))
    found = ends[-1:] if reach is None else [end for end in ends if end[1] >= reach]
    return f"{found[0][0]:.0f}{star}" if found else "never"


def plot(rows: list[dict[str, Any]], keys: tuple[str, ...], path: Path) -> None:
    """Validation AP while training, against epochs and against seconds."""
    figure = Figure(figsize=(5 * len(keys), 4), layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        for index, who in enumerate(sorted({row["who"] for row in rows})):
            for row in (row for row in rows if row["who"] == who):
                x = row.get(key) or list(range(1, len(row["epoch_ap"]) + 1))
                first = row is next(r for r in rows if r["who"] == who)
                axes.plot(x, row["epoch_ap"], color=f"C{index}", lw=1, label=who if first else None)
        axes.set_xlabel(key.removeprefix("epoch_"))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("AP on val, the head each trainer selects by")
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
