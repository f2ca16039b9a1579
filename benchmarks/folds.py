"""Three folds with error bars beside a single training of the peer: the seconds of whole commands.

    python benchmarks/folds.py --peer ~/.cache/det-peers/bin/python
        [--data ../shared/data/bccd/bccd.yaml --model yolo26n --epochs 30 --folds 3]
        [--imgsz 320 --batch 16 --rounds 1 --threads 0 2 --work runs/folds]

--peer is the python of an environment that has Ultralytics.  Each round runs `det train folds=` and
the peer's training once each, one after the other; both validate after each epoch.  --threads: of
the peer, 0 as installed (one fewer than there are cores); each is a training of its own.

Commands that are finished in --work are not repeated, so a stopped program can continue.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from children import det, kept, run
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
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, list[float]] = {}
    folds: dict[str, Any] = {}
    for number in range(options.rounds):
        train = partial(ours, options, number)
        found = kept(work / f"folds-{number}.json", partial(clocked, train))
        folds = found["said"]
        seconds.setdefault(OURS, []).append(found["seconds"])
        for threads in options.threads:
            name = f"given {threads} threads" if threads else "as installed"
            train = partial(peer, options, number, threads)
            found = kept(work / f"peer-{threads}-{number}.json", partial(clocked, train))
            seconds.setdefault(name, []).append(found["seconds"])
            facts = {"seconds": seconds, "folds": folds}
            text = page(options, seconds, folds)
            write_page(options.out, "folds", options.model, hardware(), text, facts)


def clocked(command: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a command said, and its seconds."""
    begun = time.monotonic()
    said = command()
    return {"said": said, "seconds": time.monotonic() - begun}


def ours(options: argparse.Namespace, number: int) -> dict[str, Any]:
    """All folds."""
    return det(
        "train", data=options.data, model=options.model, epochs=options.epochs,
        imgsz=options.imgsz, batch=options.batch, folds=options.folds, plots=False, device="cpu",
        project=options.work.absolute(), name=f"folds-{number}", exist_ok=True,
    )  # fmt: skip


def peer(options: argparse.Namespace, number: int, threads: int) -> dict[str, Any]:
    """A single training of the peer on the whole of train."""
    words = {
        "data": str(Path(options.data).resolve()), "epochs": options.epochs, "device": "cpu",
        "imgsz": options.imgsz, "batch": options.batch, "project": str(options.work.absolute()),
        "exist_ok": True, "name": f"peer-{threads}-{number}",
    }  # fmt: skip
    command = [options.peer, "-c", PEER, threads, options.model, json.dumps(words)]
    return run(command, {"YOLO_OFFLINE": "1"})


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
