"""Whether a start of our own, made without COCO's 118,000 photographs, beats random weights.

    python benchmarks/pretrain.py [--images ../shared/data/coco256 --model yolo26n]
        [--teacher ../shared/weights/yolox_nano_coco.pth --epochs 45 --imgsz 320]
        [--work runs/pretrain] [options of finetune.py: --data --seeds --out ...]

Trains --model from random weights on both splits of --images, beside the labels also by the answers
of --teacher, a trained detector.  Then finetune.py trains each data set for 15 epochs from these
weights and from random ones.  A training that is finished in --work is not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml
from yolodet.detector.run.folder import is_finished

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"


def main() -> None:
    options, more = read_options()
    work = options.work.absolute()
    weights = work / "start" / "weights" / "best.safetensors"
    if not is_finished(work / "start"):
        train(options, work)
    words = ["--start", options.model, str(weights), "--imgsz", str(options.imgsz)]
    finetune = [sys.executable, str(HERE / "finetune.py"), *words, "--work", str(work)]
    raise SystemExit(subprocess.run([*finetune, *more]).returncode)


def read_options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=SHARED / "data" / "coco256")
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--teacher", default=str(SHARED / "weights" / "yolox_nano_coco.pth"))
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain"))
    return parser.parse_known_args()


def train(options: argparse.Namespace, work: Path) -> None:
    """The pretraining; the validation images are trained on too, so its AP says little."""
    work.mkdir(parents=True, exist_ok=True)
    (described,) = options.images.glob("*.yaml")
    data = yaml.safe_load(described.read_text())
    data |= {"path": str(options.images.absolute()), "train": [data["train"], data["val"]]}
    both = work / "both.yaml"
    both.write_text(yaml.safe_dump(data, sort_keys=False))
    words = [f"data={both}", f"model={options.model}", "pretrained=False", "exist_ok=True"]
    words += [f"teacher={options.teacher}", f"epochs={options.epochs}", f"imgsz={options.imgsz}"]
    place = [f"project={work}", "name=start"]
    subprocess.run([sys.executable, "-m", "yolodet.cli", "train", *words, *place], check=True)


if __name__ == "__main__":
    main()
