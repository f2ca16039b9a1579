"""Sixty images chosen by ``det pick`` against sixty at random: AP of a detector trained on each.

    python benchmarks/pick.py [--data ../shared/data/bccd/bccd.yaml ../shared/data/chess]
        [--count 60 --first 20 --seeds 0 1 2 --by both uncertainty diversity]
        [--model yolox_nano_coco.pth --epochs 50 --imgsz 320 --more "amp=False"]
        [--work runs/pick]

For each seed, --first images of train are drawn at random and a detector is trained on them.  The
others of --count are chosen with it by `det pick` (each --by) or at random, and a detector is
trained on all --count.  Both have the same first images, start, seed and options.  AP is measured
on the data set's own val, and on test where there is one.

Runs that are finished in --work are not repeated, so a stopped program can continue.  The page is
written anew after each run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from children import DET, run, trained
from pages import add_out, hardware, table, trained_on, write_page
from yolodet.datasets.edit.convert import convert
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import Dataset
from yolodet.datasets.sets.locate import load_dataset

SHARED = Path(__file__).parents[2] / "shared"
DATA = [str(SHARED / "data" / "bccd" / "bccd.yaml"), str(SHARED / "data" / "chess")]
RANDOM = "random"


def main() -> None:
    options = read_options()
    arms = [RANDOM, *options.by]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for data in options.data:
        name = Path(data).stem
        dataset = as_yolo(data, options.work / name)
        for seed in options.seeds:
            for arm in arms:
                ap = one(options, dataset, name, arm, seed)
                found.setdefault((name, arm), []).append(ap)
                report(options, found)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--first", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--by", nargs="+", default=["both", "uncertainty", "diversity"])
    parser.add_argument("--model", default=str(SHARED / "weights" / "yolox_nano_coco.pth"))
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--more", default="amp=False", help="words of det train for every run")
    parser.add_argument("--work", type=Path, default=Path("runs/pick"))
    add_out(parser)
    return parser.parse_args()


def as_yolo(data: str, folder: Path) -> Dataset:
    """The data set in YOLO format with a YAML, as lists of images need it."""
    if not (folder / "set" / "data.yaml").is_file():
        convert(load_dataset(data, download=False), folder / "set", "yolo", allow_errors=True)
    return load_dataset(folder / "set" / "data.yaml", download=False)


def one(
    options: argparse.Namespace, dataset: Dataset, name: str, arm: str, seed: int
) -> dict[str, float]:
    """AP on val and test of a detector trained on the images of one arm."""
    records = scan_split(dataset, "train", strict=False).records
    order = np.random.default_rng(seed).permutation(len(records))
    start = [records[n] for n in order[: options.first]]
    if arm == RANDOM:
        chosen = [records[n] for n in order[: options.count]]
    else:
        chosen = [*start, *picked(options, dataset, name, arm, seed, start, records)]
    results = learned(options, dataset, f"{name}-{arm}-n{options.count}-s{seed}", chosen, seed)
    measured = {"val": results["metrics"]["map"]}
    if "test" in dataset.splits:
        measured["test"] = validated(options, results["best"], dataset)
    return measured


def picked(
    options: argparse.Namespace, dataset: Dataset, name: str, arm: str, seed: int,
    start: Sequence[Record], records: Sequence[Record],
) -> list[Record]:  # fmt: skip
    """The images that `det pick` chooses.  More than six parameters: the case, and its images."""
    folder = options.work / f"{name}-{arm}-n{options.count}-s{seed}-picked"
    first = learned(options, dataset, f"{name}-first{options.first}-s{seed}", start, seed)
    if not (folder / "picked.txt").is_file():
        pool = write_pool(folder.with_name(f"{folder.name}-pool"), dataset, start, records)
        wanted = options.count - options.first
        words = [f"model={first['best']}", f"n={wanted}", f"by={arm}", f"out={folder}"]
        run([*DET, "pick", f"data={pool}", *words, "--json"])
    by_name = {record.path.name: record for record in records}
    lines = (folder / "picked.txt").read_text().splitlines()
    return [by_name[Path(line).name] for line in lines]


def write_pool(
    folder: Path, dataset: Dataset, start: Sequence[Record], records: Sequence[Record]
) -> Path:
    """A data set of links to the images of train where only the first have a label file."""
    labeled = {record.path for record in start}
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for record in records:
        link = folder / "images" / record.path.name
        if not link.exists():
            link.symlink_to(record.path.resolve())
        if record.path in labeled:  # what it says is not looked at
            (folder / "labels" / f"{record.path.stem}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    names = dict(enumerate(dataset.class_names))
    (folder / "pool.yaml").write_text(yaml.safe_dump({"train": "images", "names": names}))
    return folder / "pool.yaml"


def learned(
    options: argparse.Namespace, dataset: Dataset, name: str, chosen: Sequence[Record], seed: int
) -> dict[str, Any]:
    """A training on some images of train; results.json of it, and its best weights."""
    folder, file = options.work / name, options.work / f"{name}.txt"
    file.write_text("".join(f"{record.path.resolve()}\n" for record in chosen))
    about = {"path": str(dataset.root.resolve()), "train": str(file.resolve()),
             "names": dict(enumerate(dataset.class_names))}  # fmt: skip
    about |= {split: f"images/{split}" for split in dataset.splits if split != "train"}
    file.with_suffix(".yaml").write_text(yaml.safe_dump(about))
    results = trained(
        folder, *options.more.split(), *([] if "val" in dataset.splits else ["val=0.2"]),
        data=file.with_suffix(".yaml"), model=options.model, seed=seed, epochs=options.epochs,
        imgsz=options.imgsz,
    )  # fmt: skip
    return {**results, "best": str(folder / "weights" / "best.safetensors")}


def validated(options: argparse.Namespace, best: str, dataset: Dataset) -> float:
    """AP on test, kept beside the run."""
    note = Path(best).parents[1] / "test.json"
    if not note.is_file():
        words = [f"model={best}", f"data={dataset.yaml}", "split=test", "plots=False",
                 "report=False", f"project={options.work / 'val'}"]  # fmt: skip
        told = run([*DET, "val", *words, "--json"])
        note.write_text(json.dumps({"map": told["result"]["metrics"]["map"]}))
    return float(json.loads(note.read_text())["map"])


def report(
    options: argparse.Namespace, found: dict[tuple[str, str], list[dict[str, float]]]
) -> None:
    """Write the page: a row per data set and way to choose."""
    rows = []
    for (name, arm), measured in found.items():
        cells = [name, arm]
        for split in ("val", "test"):
            values = [each[split] for each in measured if split in each]
            shown = " ".join(f"{value:.3f}" for value in values)
            cells += [f"{statistics.mean(values):.3f}" if values else "-", shown or "-"]
        rows.append(cells)
    head = ["data", "chosen by", "val AP", "of each seed", "test AP", "of each seed"]
    text = (
        f"{options.count} images, the first {options.first} of them at random; "
        f"{options.epochs} epochs at {options.imgsz} pixels from {Path(options.model).name} "
        f"({options.more})."
    )
    facts = {f"{name} {arm}": measured for (name, arm), measured in found.items()}
    model = Path(options.model).stem
    write_page(options.out, "pick", model, hardware(trained_on()), [text, table(head, rows)], facts)


if __name__ == "__main__":
    main()
