"""What pruning costs and gives: AP after fine-tuning and ONNX Runtime images/s, by criterion.

    python benchmarks/prune.py [--data ../shared/data/bccd/bccd.yaml] [--model yolo26n]
        [--epochs 100 --tune-epochs 50 --imgsz 320 --keep 0.5 0.25 --steps 1 2]
        [--criterion taylor random opposite --of macs --seeds 0] [--more "batch=16"]
        [--work runs/prune-bench]

--model is a checkpoint, or a model that is trained first.  Each keep has its number of steps; all
are pruned by the first criterion, and by the others with the first keep.  Then the fp32 ONNX files
of all are timed in one program, in interleaved rounds, on one thread.  Runs that are finished in
--work are not repeated; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from children import det
from pages import add_out, hardware, table, write_page
from yolodet.detector.run.folder import is_finished

DATA = Path(__file__).parents[2] / "shared" / "data" / "bccd" / "bccd.yaml"


def main() -> None:
    options = read_options()
    base = options.model if Path(options.model).is_file() else trained(options)
    found = [{"name": "whole", "best": str(base), **measured(options, "whole", Path(base), {})}]
    for name, words in cases(options):
        found.append(pruned(options, name, Path(base), words))
    speeds = timed(options, [row["best"] for row in found])
    for row, rates in zip(found, speeds, strict=True):
        row["images_per_s"] = rates
    name = Path(options.model).stem
    write_page(options.out, "prune", name, hardware("cpu"), page(options, found), found)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="yolo26n", help="a model to train, or a checkpoint")
    parser.add_argument("--epochs", type=int, default=100, help="of the model that is pruned")
    parser.add_argument("--tune-epochs", type=int, default=50, help="after each step")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2])
    criteria = ["taylor", "magnitude", "bn", "random", "opposite"]
    parser.add_argument(
        "--criterion", nargs="+", choices=criteria, default=["taylor", "random", "opposite"]
    )
    parser.add_argument("--of", default="macs", choices=["macs", "parameters", "latency"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--teach", action="store_true", help="the unpruned model is the teacher")
    parser.add_argument("--more", default="", help="words of det train for every run, in quotes")
    parser.add_argument("--work", type=Path, default=Path("runs/prune-bench"))
    add_out(parser)
    return parser.parse_args()


def cases(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Name and words of each pruning."""
    found = []
    first, *others = options.criterion
    for seed in options.seeds:
        pairs = [(first, keep, n) for keep, n in zip(options.keep, options.steps, strict=True)]
        pairs += [(criterion, options.keep[0], options.steps[0]) for criterion in others]
        for criterion, keep, steps in pairs:
            name = f"{criterion}-{keep:g}-s{seed}" + "-taught" * options.teach
            words = {"criterion": criterion, "keep": keep, "steps": steps, "seed": seed}
            found.append((name, words))
    return found


def trained(options: argparse.Namespace) -> Path:
    """The best weights of the model that is pruned."""
    folder = options.work.absolute() / "base"
    if not is_finished(folder):
        words = [f"data={options.data}", f"model={options.model}", f"epochs={options.epochs}",
                 f"imgsz={options.imgsz}", f"project={folder.parent}", "name=base",
                 "exist_ok=True", *options.more.split()]  # fmt: skip
        resumed = (folder / "weights" / "last.pt").is_file()
        det("train", *([f"resume={folder}"] if resumed else words))
    return folder / "weights" / "best.safetensors"


def pruned(
    options: argparse.Namespace, name: str, base: Path, words: dict[str, Any]
) -> dict[str, Any]:
    """AP on val and test, GFLOPs and parameters of one pruning."""
    folder = options.work.absolute() / name
    if not (folder / "results.json").is_file():
        teacher = [f"teacher={base}"] if options.teach else []
        new = [f"data={options.data}", f"model={base}", f"imgsz={options.imgsz}",
               f"epochs={options.tune_epochs}", f"of={options.of}", f"project={folder.parent}",
               f"name={name}", "exist_ok=True", *teacher, *options.more.split(),
               *(f"{key}={value}" for key, value in words.items())]  # fmt: skip
        begun = (folder / "prune.json").is_file()
        print(f"{name}: {words}", file=sys.stderr)
        det("prune", *([f"resume={folder}"] if begun else new))
    best = folder / "weights" / "best.safetensors"
    return {"name": name, "best": str(best), **measured(options, name, best, words)}


def measured(
    options: argparse.Namespace, name: str, best: Path, words: dict[str, Any]
) -> dict[str, Any]:
    """AP on both splits and the size; kept in --work."""
    kept = options.work.absolute() / f"{name}.json"
    if not kept.is_file():
        from yolodet.detector.checkpoints.restore import restore
        from yolodet.detector.compress.cost import deployed

        facts: dict[str, Any] = {**words, **deployed(restore(best)[0], options.imgsz)}
        for split in ("val", "test"):
            result = det(
                "val", f"data={options.data}", f"model={best}", f"split={split}", "plots=False",
                "report=False", f"imgsz={options.imgsz}", f"project={options.work}", "name=val",
            )  # fmt: skip
            facts[split] = result["metrics"]["map"]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(facts, indent=1) + "\n")
    return dict(json.loads(kept.read_text()))


def timed(options: argparse.Namespace, weights: list[str]) -> list[list[float]]:
    """Images/s of each file, round by round, in one program on one thread."""
    import tempfile

    import numpy as np
    import torch
    from yolodet.detector.checkpoints.restore import restore
    from yolodet.detector.export.formats import onnx
    from yolodet.detector.export.formats.interface import Settings
    from yolodet.detector.export.graph import ExportGraph, Shape
    from yolodet.detector.export.proof.speed import run_interleaved

    size = (options.imgsz, options.imgsz)
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for number, path in enumerate(weights):
            file = Path(folder) / f"{number}.onnx"
            onnx.write(ExportGraph(restore(Path(path))[0]), file, Settings(Shape(size)), {})
            runners[str(number)] = onnx.open_file(file, torch.device("cpu"), 1)
        images = [np.random.default_rng(0).random((1, 3, *size), np.float32)]
        inputs = dict.fromkeys(runners, images)
        taken = run_interleaved(runners, inputs, options.rounds, 10)
    return [[1 / statistics.median(one) for one in rounds] for rounds in taken.values()]


def page(options: argparse.Namespace, found: list[dict[str, Any]]) -> list[str]:
    """A row per detector."""
    rows, whole = [], found[0]
    for row in found:
        pairs = zip(row["images_per_s"], whole["images_per_s"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        rows.append(
            [row["name"], f"{row['val']:.4f} ({row['val'] - whole['val']:+.4f})",
             f"{row['test']:.4f} ({row['test'] - whole['test']:+.4f})", f"{row['gflops']:.2f}",
             f"{row['gflops'] / whole['gflops']:.2f}", f"{row['parameters']:,}",
             f"{statistics.median(row['images_per_s']):.1f}", f"{ratio:.2f}x"]
        )  # fmt: skip
    heads = ["detector", "val AP", "test AP", "GFLOPs", "share", "parameters", "images/s", "ratio"]
    about = (
        f"{Path(options.model).name} on {options.data.stem}, imgsz {options.imgsz}; "
        f"{options.tune_epochs} epochs after each step. images/s: fp32 ONNX on one thread, batch "
        f"1, the median of {options.rounds} interleaved rounds; ratio: within rounds."
    )
    return [about, table(heads, rows)]


if __name__ == "__main__":
    main()
