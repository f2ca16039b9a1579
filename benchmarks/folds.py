"""Three folds with error bars beside a single training of the peer: the seconds of whole commands.

    python benchmarks/folds.py --peer ~/.cache/det-peers/bin/python
        [--data ../shared/data/bccd/bccd.yaml --model yolo26n --epochs 30 --folds 3]
        [--imgsz 320 --batch 16 --rounds 1 --threads 0 2 --work runs/folds]

--peer is the python of an environment that has Ultralytics.  Each round runs `det train folds=` and
the peer's training once each, one after the other; both validate after each epoch.  --threads: of
the peer, 0 as installed (one fewer than there are cores); each is a training of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from children import det, run
from pages import add_out, hardware, ratios, shown, spread, table, write_page

DATA = Path(__file__).parents[2] / "shared" / "data" / "bccd" / "bccd.yaml"
OURS = "ours"
PEER = """
import json, sys
threads, model = int(sys.argv[1]), sys.argv[2]
if threads:
    import ultralytics.utils.torch_utils as settings
    settings.NUM_THREADS = threads
from ultralytics import YOLO
y = YOLO(model + ".yaml")
y.train(plots=False, verbose=False, **json.loads(sys.argv[3]))
print(json.dumps({"map": float(y.metrics.box.map)}))
"""


def main() -> None:
    options = read_options()
    work = options.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    seconds: dict[str, list[float]] = {}
    folds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        begun = time.monotonic()
        folds.append(
            det("train", data=options.data, model=options.model, epochs=options.epochs,
                imgsz=options.imgsz, batch=options.batch, folds=options.folds, plots=False,
                device="cpu", project=work, name=f"folds-{number}")
        )  # fmt: skip
        seconds.setdefault(OURS, []).append(time.monotonic() - begun)
        for threads in options.threads:
            name = f"given {threads} threads" if threads else "as installed"
            begun = time.monotonic()
            run([options.peer, "-c", PEER, threads, options.model, words(options, work, number)],
                {"YOLO_OFFLINE": "1"})  # fmt: skip
            seconds.setdefault(name, []).append(time.monotonic() - begun)
        facts = {"seconds": seconds, "folds": folds}
        write_page(options.out, "folds", options.model, hardware(),
                   page(options, seconds, folds[-1]), facts)  # fmt: skip


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", required=True, help="python of an environment with Ultralytics")
    parser.add_argument("--threads", type=int, nargs="+", default=[0, 2], help="of the peer")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs") / "folds")
    add_out(parser)
    return parser.parse_args()


def words(options: argparse.Namespace, work: Path, number: int) -> str:
    """What the peer is told, as JSON."""
    return json.dumps({
        "data": str(Path(options.data).resolve()), "epochs": options.epochs, "device": "cpu",
        "imgsz": options.imgsz, "batch": options.batch, "project": str(work), "exist_ok": True,
        "name": f"peer-{number}",
    })  # fmt: skip


def page(
    options: argparse.Namespace, seconds: dict[str, list[float]], folds: dict[str, Any]
) -> list[str]:
    """The seconds of each command, and what the folds say."""
    rows = []
    for name, taken in seconds.items():
        who = f"det train folds={options.folds}" if name == OURS else f"the peer once, {name}"
        rows.append((who, shown(spread(taken), 0), shown(ratios(taken, seconds[OURS]))))
    aps = ", ".join(f"{each['map']:.3f}" for each in folds["runs"])
    about = (
        f"{options.model} on {Path(options.data).stem}, {options.epochs} epochs, imgsz "
        f"{options.imgsz}, batch {options.batch}: seconds of whole commands with validation."
    )
    found = (
        f"AP of the folds: {folds['metrics']['map']:.3f} ± {folds['spread']['map']:.3f} (standard "
        f"deviation between the runs; {aps})."
    )
    return [about, table(("command", "seconds", "of ours"), rows), found]


if __name__ == "__main__":
    main()
