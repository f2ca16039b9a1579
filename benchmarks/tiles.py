"""Small objects in large pictures: AP of whole images beside tiles; and memory of a giant picture.

    python benchmarks/tiles.py [ap] [memory] [--scenes 40 12 --epochs 10 --seeds 0]
        [--how whole tiles whole-p2 --model yolo26n --imgsz 640 --work runs/tiles]

ap: scenes of 3000 x 2000 pixels that det draws, with 40 objects of 10 to 40 pixels of four classes
each.  Every way is a `det train` of its own with as many samples: tiles for --epochs, whole images
for as many more epochs as an image has tiles that are trained on.  AP is that of the best weights
on whole images of the validation split.  whole-p2 needs the model NAME-p2.

memory: a drawn picture of --side x --side pixels as JPEG and PNG, predicted by `det predict` in a
process of its own, from an untrained checkpoint; the most memory that the process held.

Runs that are finished in --work are not repeated, so a stopped program can continue.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from children import run
from pages import add_out, hardware, table, trained_on, write_page
from yolodet.datasets.batches.tiles import cut, sample_empty
from yolodet.datasets.drawn.objects import KINDS
from yolodet.datasets.drawn.scenery import develop, paint_background
from yolodet.datasets.drawn.shapes import EASY_CLASSES
from yolodet.datasets.drawn.stage import Stage, pose, random_look, relight
from yolodet.datasets.images.tiling import DEFAULT_OVERLAP, Tiling
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

SIZE = (2000, 3000)
OBJECTS, SMALLEST, LARGEST = 40, 10, 40
TILE = 640
WAYS = ("whole", "tiles", "whole-p2")
GIB = 2**30
PREDICT = """
import json, sys
from yolodet.cli import main
code = main(["predict", *sys.argv[1:]])
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps({"code": code, "peak": int(peak.split()[1]) * 1024}))
"""


def main() -> None:
    options = read_options()
    for what in options.what:
        {"ap": compare, "memory": measure_memory}[what](options)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=("ap", "memory"), default=["ap", "memory"])
    parser.add_argument("--how", nargs="+", choices=WAYS, default=["whole", "tiles"])
    parser.add_argument("--scenes", nargs=2, type=int, default=[40, 12], help="to train, validate")
    parser.add_argument("--epochs", type=int, default=10, help="of tiles")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--words", nargs="*", default=[], help="more words of det train")
    parser.add_argument("--side", type=int, default=20_000, help="of the giant picture")
    parser.add_argument("--work", type=Path, default=Path("runs/tiles"))
    add_out(parser)
    return parser.parse_args()


# -- AP ----------------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> None:
    """Train each way and write the page anew after each."""
    data = draw_data(options.work.absolute() / "data-{}-{}".format(*options.scenes), options.scenes)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in options.seeds:
        for how in options.how:
            found[how, seed] = trained(options, data, how, seed)
            facts = [{"how": h, "seed": s, **result} for (h, s), result in found.items()]
            write_page(options.out, "tiles", options.model, hardware(trained_on()),
                       page(options, found), facts)  # fmt: skip


def draw_scene(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A large image [H,W,3] uint8 RGB with small objects, their boxes [N,4] and labels [N]."""
    rng = np.random.default_rng((seed, index))
    stage, look = Stage(paint_background(rng, *SIZE)), random_look(rng)
    for label in rng.integers(0, len(EASY_CLASSES), OBJECTS).tolist():
        kind = KINDS[EASY_CLASSES[label]]
        side = round(SMALLEST * (LARGEST / SMALLEST) ** rng.random())
        stage.place(rng, relight(rng, pose(rng, kind.paint, side, kind.tilt, kind.squash), look),
                    look, label)  # fmt: skip
    return develop(rng, stage.image), stage.boxes(), np.array(stage.labels, np.int64)


def draw_data(folder: Path, scenes: list[int]) -> Path:
    """The data set in YOLO layout; drawn once."""
    for number, (split, count) in enumerate(zip(("train", "val"), scenes, strict=True)):
        for index in range(count):
            image = folder / "images" / split / f"{index:04d}.jpg"
            labels = folder / "labels" / split / f"{index:04d}.txt"
            if labels.is_file():
                continue
            picture, boxes, classes = draw_scene(0, 10**6 * number + index)
            image.parent.mkdir(parents=True, exist_ok=True)
            labels.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            rows = np.concatenate((centers, sides), 1) / np.tile((SIZE[1], SIZE[0]), 2)
            labels.write_text("".join(
                f"{label} {' '.join(f'{value:.7f}' for value in row)}\n"
                for label, row in zip(classes.tolist(), rows.tolist(), strict=True)
            ))  # fmt: skip
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(EASY_CLASSES))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
    return folder / "data.yaml"


def samples_per_image(options: argparse.Namespace, data: Path) -> float:
    """Tiles that are trained on, for each image."""
    records = scan_split(load_dataset(data), "train").records
    tiles, _ = cut(records, Tiling(TILE, DEFAULT_OVERLAP))
    return len(sample_empty(tiles, 0.25, 0)) / len(records)


def trained(options: argparse.Namespace, data: Path, how: str, seed: int) -> dict[str, Any]:
    """AP of the best weights, and how the run went."""
    digest = f"{options.model}-{how}-{options.imgsz}-e{options.epochs}-s{seed}"
    folder = options.work.absolute() / f"{digest}-{'-'.join(map(str, options.scenes))}"
    kept = folder / "result.json"
    if not kept.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        tiled = how == "tiles"
        more = 1.0 if tiled else samples_per_image(options, data)
        words = [f"model={options.model}{'-p2' if how == 'whole-p2' else ''}", f"seed={seed}",
                 f"epochs={round(options.epochs * more)}", f"imgsz={options.imgsz}",
                 f"tile={TILE if tiled else 0}", *options.words]  # fmt: skip
        begun = time.monotonic()
        result = run([sys.executable, "-m", "yolodet.cli", "train", f"data={data}", *words,
                      f"project={folder}", "name=run", "--json"])["result"]  # fmt: skip
        metrics = result["metrics"]
        names = ("map", "map_50", "map_small", "recall")
        kept.write_text(json.dumps({
            **{name: metrics[name] for name in names},
            "minutes": round((time.monotonic() - begun) / 60, 1), "words": words,
        }, indent=1) + "\n")  # fmt: skip
    return dict(json.loads(kept.read_text()))


def page(options: argparse.Namespace, found: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """What was measured, in words and a table."""
    train, val = options.scenes
    about = (
        f"{options.model} at imgsz={options.imgsz} on drawn scenes of {SIZE[1]} x {SIZE[0]} pixels "
        f"with {OBJECTS} objects of {SMALLEST} to {LARGEST} pixels: {train} to train, {val} to "
        "validate. All runs see about as many samples; AP is measured on whole images."
    )
    rows = []
    for (how, seed), result in found.items():
        whole = found.get(("whole", seed), {}).get("map")
        times = f"{result['map'] / whole:.1f}" if whole else "-"
        rows.append((how, seed, f"{result['map']:.3f}", f"{result['map_50']:.3f}", times,
                     f"{result['minutes']:.0f}"))  # fmt: skip
    return [about, table(("how", "seed", "AP", "AP50", "times whole", "minutes"), rows)]


# -- memory ------------------------------------------------------------------------------------


def measure_memory(options: argparse.Namespace) -> None:
    """Predict a giant picture in each format."""
    checkpoint, found = untrained(options.work / "untrained.safetensors", options.model), []
    for suffix in (".jpg", ".png"):
        picture = draw_giant(options.work / f"giant-{options.side}{suffix}", options.side)
        begun = time.monotonic()
        result = run([sys.executable, "-c", PREDICT, f"source={picture}", f"model={checkpoint}",
                      f"tile={TILE}", "imgsz=640", "save_txt=True", f"project={options.work}",
                      "name=giant"])  # fmt: skip
        if result["code"]:
            raise SystemExit(f"{picture}: det predict ended with {result['code']}")
        tiles = len(Tiling(TILE, DEFAULT_OVERLAP).of((options.side, options.side)))
        found.append({"file": picture.name, "bytes": picture.stat().st_size, "tiles": tiles,
                      "peak": result["peak"], "seconds": time.monotonic() - begun})  # fmt: skip
    rows = [(each["file"], f"{each['bytes'] / 1e6:.0f}", each["tiles"], f"{each['peak'] / GIB:.2f}",
             f"{each['seconds']:.0f}") for each in found]  # fmt: skip
    about = f"A picture of {options.side} x {options.side} pixels in tiles of {TILE}: det predict."
    columns = ("file", "MB on disk", "tiles", "peak GiB", "seconds")
    parts = [about, table(columns, rows)]
    write_page(options.out, "giant", options.model, hardware("cpu"), parts, found)


def draw_giant(path: Path, side: int) -> Path:
    """A picture made of drawn scenes, turned and mirrored; drawn once."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        scenes = [draw_scene(1, index)[0] for index in range(4)]
        whole = np.zeros((side, side, 3), np.uint8)
        for number, (y, x) in enumerate(
            (y, x) for y in range(0, side, SIZE[0]) for x in range(0, side, SIZE[1])
        ):
            part = scenes[number % 4][:: (-1) ** number, :: (-1) ** (number // 3)]
            room = whole[y : y + SIZE[0], x : x + SIZE[1]]
            room[:] = part[: room.shape[0], : room.shape[1]]
        words = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_PNG_COMPRESSION, 1]
        cv2.imwrite(str(path), whole, words[:2] if path.suffix == ".jpg" else words[2:])
    return path


def untrained(path: Path, name: str) -> Path:
    """A checkpoint with random weights."""
    from yolodet.detector.models.build import build
    from yolodet.weights.checkpoint import Meta, save_weights

    path.parent.mkdir(parents=True, exist_ok=True)
    model = build(name, len(EASY_CLASSES))
    save_weights(path, model.state_dict(), Meta(name, EASY_CLASSES, 640, (8, 16, 32), "fp32"))
    return path


if __name__ == "__main__":
    main()
