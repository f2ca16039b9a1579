"""What a teacher gives: a small detector trained with it and without, at equal epochs.

    python benchmarks/distill.py [--data ../shared/data/bccd/bccd.yaml] [--student yolo26n]
        [--teacher yolo26s] [--epochs 100 --teacher-epochs 100 --imgsz 320 --seeds 0 1 2]
        [--words "distill=1.0" "distill=2.0" --more "batch=16" --work runs/distill]

First the teacher is trained, or taken where --teacher is a checkpoint.  Then each seed trains the
student plain and once with the teacher for each of --words.  AP of the best weights, on val and on
test.  Runs that are finished in --work are not repeated; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from children import det
from pages import add_out, hardware, table, trained_on, write_page

DATA = Path(__file__).parents[2] / "shared" / "data" / "bccd" / "bccd.yaml"
PLAIN = "plain"


def main() -> None:
    options = read_options()
    best = options.teacher
    found: dict[str, list[dict[str, Any]]] = {}
    if not Path(best).is_file():
        words = [f"model={options.teacher}", f"epochs={options.teacher_epochs}", "seed=0"]
        taught = trained(options, f"teacher-{options.teacher}", words)
        found["teacher"], best = [taught], taught["best"]
    for seed in options.seeds:
        for name in (PLAIN, *options.words):
            words = [f"model={options.student}", f"epochs={options.epochs}", f"seed={seed}"]
            if name != PLAIN:
                words += [f"teacher={best}", *name.split()]
            label = "-".join(name.split()).replace("=", "")
            found.setdefault(name, []).append(trained(options, f"{label}-s{seed}", words))
        write_page(options.out, "distill", options.student, hardware(trained_on()),
                   page(options, found), found)  # fmt: skip


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--student", default="yolo26n")
    parser.add_argument("--teacher", default="yolo26s", help="a model to train, or a checkpoint")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--teacher-epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--words", nargs="*", default=["distill=1.0"])
    parser.add_argument("--more", default="", help="words of det train for every run, in quotes")
    parser.add_argument("--work", type=Path, default=Path("runs/distill"))
    add_out(parser)
    return parser.parse_args()


def trained(options: argparse.Namespace, name: str, words: list[str]) -> dict[str, Any]:
    """AP on val and test of a training, its best weights and seconds."""
    folder = options.work.absolute() / name
    kept, last = folder / "result.json", folder / "weights" / "last.pt"
    if not kept.is_file():
        print(f"{name}: {' '.join(words)}", file=sys.stderr)
        new = [f"data={options.data}", f"imgsz={options.imgsz}", *options.more.split(), *words]
        place = [f"project={folder.parent}", f"name={name}", "exist_ok=True"]
        train = [f"resume={folder}"] if last.is_file() else [*new, *place]
        result = det("train", *train)
        test = det(
            "val", f"data={options.data}", f"model={folder / 'weights' / 'best.safetensors'}",
            "split=test", "plots=False", f"project={folder}", "name=test",
        )  # fmt: skip
        facts = {
            "val": result["metrics"]["map"],
            "test": test["metrics"]["map"],
            "seconds": result["train_seconds"],
            "best": str(folder / "weights" / "best.safetensors"),
        }
        kept.write_text(json.dumps(facts, indent=1) + "\n")
    return dict(json.loads(kept.read_text()))


def page(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row per way to train."""
    rows = []
    for name, runs in found.items():
        cells = [name if name in (PLAIN, "teacher") else f"teacher, {name}"]
        for split in ("val", "test"):
            values = [run[split] for run in runs]
            cells.append(f"{statistics.mean(values):.4f} ({', '.join(f'{v:.3f}' for v in values)})")
            gain = ""
            if name not in (PLAIN, "teacher"):
                pairs = zip(runs, found[PLAIN], strict=False)  # each is written as it ends
                gain = f"{statistics.mean(run[split] - plain[split] for run, plain in pairs):+.4f}"
            cells.append(gain)
        cells.append(f"{statistics.mean(run['seconds'] for run in runs):.0f}")
        rows.append(cells)
    heads = ["training", "val AP (seeds)", "gain", "test AP (seeds)", "gain", "seconds"]
    about = (
        f"{options.student} on {options.data.stem}, {options.epochs} epochs, imgsz "
        f"{options.imgsz}; teacher {options.teacher}. Gain: mean over the seeds."
    )
    return [about, table(heads, rows)]


if __name__ == "__main__":
    main()
