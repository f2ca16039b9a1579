"""Labels spoiled on purpose: how many `det data errors` finds, and the AP after accepting them.

    python benchmarks/label_errors.py [--data bccd.yaml chess rbc] [--share 0.05 --seeds 0]
        [--model yolox_nano_coco.pth --folds 5 --epochs 50 --imgsz 320 --least 0.5] [--ap]
        [--more "amp=False" --work runs/label-errors]

For each data set and seed a share of the boxes of train is spoiled: removed, given another class,
shifted by 25 to 50 % of its width and height, or doubled, each equally often.  `det train folds=`
trains on the spoiled set, and `det data errors` looks through it with the fold that has not learned
the image.  Found: a suspicion of at least --least in that image whose suggested box (of a doubled
one: the box to remove) overlaps the true one by an IoU of 0.5.  A false alarm: a suspicion that
finds no spoiled box.  What the data set's own labels got wrong is a false alarm here, too: look at
alarms/errors.jpg in the work folder, which shows the false alarms.

--ap also trains on the clean, the spoiled and the corrected set (every suspicion of at least
--least accepted) and measures on the clean val and test.

Runs that are finished in --work are not repeated, so a stopped program can continue.  The page is
written anew after each data set.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from children import DET, det, run, trained
from pages import add_out, hardware, table, trained_on, write_page
from spoiled import KINDS, Spoiled, read_spoiled, spoil
from yolodet.datasets.boxes import overlaps
from yolodet.datasets.edit.convert import convert, write_dataset
from yolodet.datasets.edit.layout import place_records
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.examine.label_errors import LabelErrors, write
from yolodet.detector.examine.suspicions import Suspicion, accept
from yolodet.detector.run.folder import is_finished

SHARED = Path(__file__).parents[2] / "shared"
DATA = [str(SHARED / "data" / word) for word in ("bccd/bccd.yaml", "chess", "rbc")]
LEVELS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def main() -> None:
    options = read_options()
    found: list[dict[str, Any]] = []
    for data in options.data:
        for seed in options.seeds:
            found.append(one(options, data, seed))
            report(options, found)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default=str(SHARED / "weights" / "yolox_nano_coco.pth"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--least", type=float, default=0.5)
    parser.add_argument("--ap", action="store_true")
    parser.add_argument("--more", default="amp=False", help="words of det train for every run")
    parser.add_argument("--work", type=Path, default=Path("runs/label-errors"))
    add_out(parser)
    return parser.parse_args()


def one(options: argparse.Namespace, data: str, seed: int) -> dict[str, Any]:
    """Spoil a data set, train, look, and judge."""
    name = f"{Path(data).stem}-s{seed}"
    folder = options.work / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "spoiled" / "spoiled.json").is_file():
        spoil(data, folder / "spoiled", options.share, seed)
    told = looked(options, folder, seed)
    done = read_spoiled(folder / "spoiled")
    levels = {level: judged(told, done, level) for level in (*LEVELS, options.least)}
    show_alarms(folder, [s for s in told if s.score >= options.least], done)
    aps = accuracies(options, data, folder, told, seed) if options.ap else {}
    boxes = sum(len(r.boxes) for r in records_of(folder / "spoiled" / "data.yaml"))
    return {"name": name, "boxes": boxes, "spoiled": len(done), "levels": levels, "ap": aps}


def looked(options: argparse.Namespace, folder: Path, seed: int) -> list[Suspicion]:
    """Every suspicion about the spoiled set."""
    data = folder / "spoiled" / "data.yaml"
    if (folder / "folds" / "repeat.json").is_file() and not is_finished(folder / "folds"):
        det("train", resume=folder / "folds")
    trained(folder / "folds", *training(options, data, seed), folds=options.folds)
    if not (folder / "errors" / "errors.json").is_file():
        words = [f"data={data}", f"model={folder / 'folds'}", "least=0", f"out={folder / 'errors'}"]
        run([*DET, "data", "errors", *words, "--json"])
    rows = json.loads((folder / "errors" / "errors.json").read_text())["suspicions"]
    return [Suspicion(**{**row, "image": Path(row["image"])}) for row in rows]


def show_alarms(folder: Path, told: Sequence[Suspicion], done: Sequence[Spoiled]) -> None:
    """``alarms``: the suspicions that find no spoiled box, listed and drawn as by the command."""
    data = folder / "spoiled" / "data.yaml"
    alarms = [one for one in told if not any(finds(one, each) for each in done)]
    names = load_dataset(data, download=False).class_names
    shutil.rmtree(folder / "alarms", ignore_errors=True)
    write(LabelErrors(alarms, records_of(data), names, True), folder / "alarms")


def training(options: argparse.Namespace, data: Path, seed: int) -> list[str]:
    """The words of every training."""
    return [
        f"data={data}", f"model={options.model}", f"epochs={options.epochs}", f"seed={seed}",
        f"imgsz={options.imgsz}", *options.more.split(),
    ]  # fmt: skip


def records_of(data: Path) -> list[Any]:
    return scan_split(load_dataset(data, download=False), "train", strict=False).records


def judged(
    told: Sequence[Suspicion], done: Sequence[Spoiled], level: float
) -> dict[str, dict[str, int]]:
    """How many of each kind were spoiled, were found, and how many alarms were false."""
    told = [one for one in told if one.score >= level]
    seen, false = set[int](), Counter[str]()
    for one in told:
        hits = [n for n, each in enumerate(done) if finds(one, each)]
        seen |= set(hits)
        false[one.kind] += not hits
    return {
        "spoiled": dict(Counter(each.kind for each in done)),
        "found": dict(Counter(done[n].kind for n in seen)),
        "false": dict(false),
    }


def finds(one: Suspicion, spoiled: Spoiled) -> bool:
    """Whether a suspicion points at a spoiled box."""
    if one.image.name != spoiled.image:
        return False
    if (one.kind == "duplicated") != (spoiled.kind == "duplicated"):
        return False
    box = one.box if one.kind == "duplicated" else one.suggested_box
    pair = [np.array([each], np.float32) for each in (box, spoiled.box)]
    return float(overlaps(*pair)[0, 0]) >= 0.5


def accuracies(
    options: argparse.Namespace, data: str, folder: Path, told: Sequence[Suspicion], seed: int
) -> dict[str, dict[str, float]]:
    """AP on the clean val and test after training on the clean, spoiled and corrected set."""
    sets = {"spoiled": folder / "spoiled", "clean": folder / "clean", "corrected": folder / "fixed"}
    if not (sets["clean"] / "data.yaml").is_file():
        convert(load_dataset(data, download=False), sets["clean"], "yolo", allow_errors=True)
    if not (sets["corrected"] / "data.yaml").is_file():
        correct(sets["spoiled"], sets["corrected"], [s for s in told if s.score >= options.least])
    found = {}
    for word, place in sets.items():
        splits = load_dataset(place / "data.yaml", download=False).splits
        held = [] if "val" in splits else ["val=0.2"]
        run_folder = folder / f"trained-{word}"
        results = trained(run_folder, *training(options, place / "data.yaml", seed), *held)
        found[word] = {"val": results["metrics"]["map"]}
        clean = load_dataset(sets["clean"] / "data.yaml", download=False)
        if "test" in clean.splits:
            words = [f"model={run_folder}", f"data={clean.yaml}", "split=test", "plots=False",
                     "report=False", f"project={folder / 'val'}"]  # fmt: skip
            told_test = run([*DET, "val", *words, "--json"])["result"]
            found[word]["test"] = told_test["metrics"]["map"]
    return found


def correct(spoiled: Path, out: Path, told: Sequence[Suspicion]) -> None:
    """Write the spoiled set with every suspicion accepted."""
    dataset = load_dataset(spoiled / "data.yaml", download=False)
    splits = {}
    for split in dataset.splits:
        records = scan_split(dataset, split, strict=False).records
        if split == "train":
            records = [accept(r, [s for s in told if s.image == r.path]) for r in records]
        splits[split] = place_records(split, records)
    write_dataset(splits, dataset, out, format="yolo", images="link")


def report(options: argparse.Namespace, found: Sequence[dict[str, Any]]) -> None:
    """Write the page."""
    kinds, shares, aps = [], [], []
    for case in found:
        at = case["levels"][options.least]
        for kind in KINDS:
            row = [at[what].get(kind, 0) for what in ("spoiled", "found", "false")]
            kinds.append([case["name"], kind, *row])
        for level in sorted(case["levels"], reverse=True):
            each = case["levels"][level]
            got, false = sum(each["found"].values()), sum(each["false"].values())
            share = got / max(case["spoiled"], 1)
            shares.append([case["name"], f"{level:g}", f"{share:.0%}", got, false,
                           f"{false / max(got + false, 1):.0%}"])  # fmt: skip
        for word, ap in case["ap"].items():
            cells = [f"{ap[split]:.3f}" if split in ap else "-" for split in ("val", "test")]
            aps.append([case["name"], word, *cells])
    text = (
        f"{options.share:.0%} of the boxes of train spoiled; {options.folds} folds of "
        f"{options.epochs} epochs at {options.imgsz} pixels from {Path(options.model).name} "
        f"({options.more}); suspicions of at least {options.least:g}."
    )
    parts = [
        text,
        table(["data", "kind", "spoiled", "found", "false alarms"], kinds),
        table(["data", "least", "found", "boxes", "false alarms", "of all alarms"], shares),
    ]
    parts += [table(["data", "trained on", "val AP", "test AP"], aps)] if aps else []
    model = Path(options.model).stem
    write_page(options.out, "label-errors", model, hardware(trained_on()), parts, list(found))


if __name__ == "__main__":
    main()
