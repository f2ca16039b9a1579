"""Test-time augmentation and fused models: AP and ms per image, alone and together.

    python benchmarks/fused.py MODEL [MODEL ...] --data ../shared/data/bccd/bccd.yaml
        [--split val --device cpu --work runs/fused]

Each model is measured by `det val` as it is and with augment=True, and all of them as model=a,b,c,
both ways.  Measurements that are finished in --work are not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from children import run
from pages import add_out, hardware, table, write_page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="checkpoints of the same classes")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/fused"))
    add_out(parser)
    options = parser.parse_args()
    together = [",".join(options.models)] if len(options.models) > 1 else []
    found = [measured(options, model, augment)
             for model in [*options.models, *together] for augment in (False, True)]  # fmt: skip
    rows = [(each["what"], "yes" if each["augment"] else "no", f"{each['map']:.4f}",
             f"{each['map_50']:.4f}", f"{each['ms']:.1f}") for each in found]  # fmt: skip
    columns = ("model", "augment", "AP", "AP50", "ms per image")
    about = f"`det val` on {Path(options.data).stem} {options.split}, batches of 16."
    name = Path(options.data).stem
    write_page(options.out, "fused", name, hardware(options.device), [about, table(columns, rows)],
               found)  # fmt: skip


def measured(options: argparse.Namespace, model: str, augment: bool) -> dict[str, Any]:
    """One measurement, kept in --work."""
    data = Path(options.data).absolute()
    asked = f"{model} {augment} {data} {options.split} {options.device}"
    kept = options.work / f"{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    if not kept.is_file():
        result = run([sys.executable, "-m", "yolodet.cli", "val", f"model={model}", f"data={data}",
                      f"split={options.split}", f"augment={augment}", f"device={options.device}",
                      "plots=False", "report=False", f"project={options.work}", "--json"]
                     )["result"]  # fmt: skip
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({
            "what": f"{len(model.split(','))} fused" if "," in model else result["model"],
            "model": model, "augment": augment,
            **{name: result["metrics"][name] for name in ("map", "map_50")},
            "ms": result["speed_ms"]["inference"] + result["speed_ms"]["postprocess"],
        }))  # fmt: skip
    return dict(json.loads(kept.read_text()))


if __name__ == "__main__":
    main()
