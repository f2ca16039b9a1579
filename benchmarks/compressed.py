"""Files of `det compress` beside the fp32 ONNX file of the same detector: AP, size and speed.

    python benchmarks/compressed.py [RUN ...] [--rounds 15] [--work runs/compressed]
        [--model best.safetensors --data bccd.yaml --imgsz 320 --files half.tflite ...]

RUN: a finished folder of `det compress`; --files: exported files of compressed forms of --model.
AP of each file on val and on test (`det val`).  Then the files and the fp32 ONNX file of the whole
detector are timed in one program, in interleaved rounds of one image, on one and on two threads:
as the processor is, and without AMX.  Small layers fill AMX's tiles badly, and most processors
have none (docs/log.md).

What is finished in --work is not repeated.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from children import det, kept, run
from pages import add_out, hardware, ratios, shown, table, write_page
from qat import SUFFIX, file_times
from yolodet.detector.options.formats import FORMATS

BASE = "onnx fp32"
KINDS = {suffix: kind for kind, suffix in SUFFIX.items()}
NO_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}
"""For OpenVINO, which makes room for AMX's state by itself."""
ARCH_PRCTL, REQUEST_PERMISSION, TILES = 158, 0x1023, 18
"""arch_prctl(2) on x86-64."""


def main() -> None:
    options = read_options()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure.read_text()), options.without_amx)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    cases = [case_of(options, **of_run(folder)) for folder in options.runs]
    if options.files:
        cases.append(case_of(options, **of_files(options)))
    write_page(options.out, "compressed", "", hardware(), page(options, cases), cases)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, help="the whole detector that --files are made of")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--files", type=Path, nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("runs/compressed"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without-amx", action="store_true", help=argparse.SUPPRESS)
    add_out(parser)
    return parser.parse_args()


def of_run(folder: Path) -> dict[str, Any]:
    """Model, data and files of a run of `det compress`."""
    args = yaml.safe_load((folder / "args.yaml").read_text())
    told = json.loads((folder / "results.json").read_text())
    return {"name": folder.name, "model": args["model"], "data": args["data"],
            "imgsz": int(args["imgsz"]), "title": f"target={told['target']} keep={args['keep']}",
            "files": {row["name"]: Path(row["file"]) for row in told["rows"]}}  # fmt: skip


def of_files(options: argparse.Namespace) -> dict[str, Any]:
    """The same of files that are named on the command line."""
    files = {file.name: file for file in options.files}
    return {"name": options.data.stem, "model": str(options.model), "data": str(options.data),
            "imgsz": options.imgsz, "files": files, "title": "made one by one"}  # fmt: skip


def case_of(
    options: argparse.Namespace, *, name: str, model: str, data: str, imgsz: int,
    files: dict[str, Path], title: str,
) -> dict[str, Any]:  # fmt: skip
    """The fp32 ONNX file and ``files``, with AP, size and times."""
    base = options.work / f"{name}.onnx"
    if not base.is_file():
        det("export", model=model, format="onnx", imgsz=imgsz, output=base)
    rows = []
    for label, place in {BASE: base, **files}.items():
        file = next(place.glob("*.xml")) if place.is_dir() else place
        kind = KINDS[file.suffix]
        note = options.work / f"{name}-{label.replace(' ', '-')}.json"
        rows.append({
            "name": label, "file": str(file), "format": kind,
            "bytes": sum(part.stat().st_size for part in FORMATS[kind].files(file)),
            "ap": kept(note, lambda file=file: measured(options, data, file)),
        })  # fmt: skip
    job = options.work / f"{name}-job.json"
    job.write_text(json.dumps({"rows": rows, "imgsz": imgsz, "rounds": options.rounds}))
    words = [sys.executable, __file__, "--measure", str(job)]
    ways: dict[str, tuple[list[str], dict[str, str]]] = {"as it is": ([], {})}
    if has_amx():
        ways["without AMX"] = (["--without-amx"], NO_AMX)
    times = {
        way: kept(options.work / f"{name}-{way.replace(' ', '-')}.json",
                  lambda more=more: run([*words, *more[0]], more[1]))
        for way, more in ways.items()
    }  # fmt: skip
    return {"data": Path(data).stem, "imgsz": imgsz, "title": title, "rows": rows, "times": times}


def measured(options: argparse.Namespace, data: str, file: Path) -> dict[str, float]:
    """AP of a file on both splits."""
    found = {}
    for split in ("val", "test"):
        result = det("val", model=file, data=data, split=split, plots=False, report=False,
                     project=options.work / "val")  # fmt: skip
        found[split] = result["metrics"]["map"]
    return found


def has_amx() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and "amx_tile" in info.read_text()


def refuse_amx() -> Any:
    """Make Linux refuse AMX to this process: its state does not fit on this signal stack, which
    is returned and has to stay."""
    from yolodet.detector.export.formats.signal_stack import Stack

    libc, size = ctypes.CDLL(None), 8192
    memory = ctypes.create_string_buffer(size)
    libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, size)), None)
    if libc.syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILES) == 0:
        raise SystemExit("AMX could not be refused: measure without --without-amx")
    return memory


def measure(job: dict[str, Any], without_amx: bool) -> dict[str, Any]:
    """Threads -> name of a file -> seconds per image of each round."""
    stack = refuse_amx() if without_amx else None
    order = sorted(job["rows"], key=lambda row: row["format"] == "openvino")  # it asks for AMX
    found = file_times(order, job["imgsz"], job["rounds"], each=10)
    del stack
    return found


def page(options: argparse.Namespace, cases: list[dict[str, Any]]) -> list[str]:
    """A table per run."""
    parts = [
        "# Compressed files beside fp32 ONNX",
        "Differences of AP, shares of the size and ratios of images/s are to the fp32 ONNX file "
        f"of the whole detector; speed of one image, {options.rounds} interleaved rounds in one "
        "program: median (least-most).",
    ]
    for case in cases:
        kinds = [(kind, threads) for kind in case["times"] for threads in ("1", "2")]
        base = case["rows"][0]
        rows = []
        for row in case["rows"]:
            aps = [f"{row['ap'][s]:.4f} ({row['ap'][s] - base['ap'][s]:+.4f})"
                   for s in ("val", "test")]  # fmt: skip
            speeds = [
                shown(ratios(times[BASE], times[row["name"]]), 2, "x")
                for times in (case["times"][kind][threads] for kind, threads in kinds)
            ]
            size = f"{row['bytes'] / 1e6:.2f} ({row['bytes'] / base['bytes']:.2f}x)"
            rows.append([row["name"], *aps, size, *speeds])
        heads = ["file", "val AP", "test AP", "MB"]
        heads += [f"{kind}, {n} thread{'s' * (n != '1')}" for kind, n in kinds]
        parts += [f"{case['data']}, imgsz {case['imgsz']}, {case['title']}:", table(heads, rows)]
    return parts


if __name__ == "__main__":
    main()
