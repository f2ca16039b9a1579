"""The whole way on one page: prune with a teacher, quantize, export, compare, choose.

Each candidate is a file of one checkpoint in one precision, made, proven and measured once, so a
compression that was stopped goes on where it was.  Nothing is built on a pruned detector that has
lost more than ``max_drop`` or is not faster.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...files.json_text import read_note
from ..checkpoints.restore import restore
from ..export.export import export
from ..export.targets import PRECISION_OPTIONS
from ..options.compress import COMPRESSION, CompressConfig
from ..options.export import ExportConfig
from ..options.fields import options_of
from ..options.formats import FORMATS, FULL
from ..options.parse import parse
from ..options.prune import PruneConfig
from ..run.files import plain, write_args, write_json
from ..run.folder import BEST, RunError, new_run_folder
from ..run.log import Log
from .begun import Begun, resumed
from .check import COMPRESS, MACHINE, PRUNE, training_of
from .latency import seconds_of_files
from .plots import plot_compression
from .prune import check_data_of, prune
from .training import train_once

WHOLE = "fp32"
"""The file that all others are compared with."""
CHOSEN = "fastest within the budget"
Compression = Begun[CompressConfig]


def compress(config: CompressConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Make the candidates, compare them, and choose the fastest within the budget.

    Returns the content of results.json.  Raises what pruning, training and exporting raise."""
    if config.resume is not None:
        begun = resumed(COMPRESS, config, given, log)
    else:
        begun = _begin(config, given, log)
    with begun.working():
        return _finish(begun, _candidates(begun))


def _begin(config: CompressConfig, given: frozenset[str], log: Log) -> Compression:
    """Look at the checkpoint and the data, then make the folder."""
    path = Path(str(config.model)).absolute()
    _, meta = restore(path)
    check_data_of(config, given, meta, log, boxes=True)
    config = replace(config, model=str(path), teacher=config.teacher or str(path))
    folder = new_run_folder(config, "compress")
    write_args(folder, config)
    write_json(folder / COMPRESS.state, {"given": sorted(given | {"teacher"})})
    log.to_file(folder / "log.txt")
    return Begun(COMPRESS, config, given | {"teacher"}, folder, log)


def _candidates(begun: Compression) -> list[dict[str, Any]]:
    """All files, one after the other; those of the whole detector first."""
    whole = Path(str(begun.config.model))
    rows = [_file(begun, WHOLE, whole, WHOLE)]
    if not rows[0]["passed"] or rows[0]["ap"] is None:
        raise RunError(
            f"{rows[0]['file']} does not match its checkpoint, or no AP was measured: there is "
            "nothing to compare with; see its .json"
        )
    rows += [*_smaller(begun, "", whole), _quantized(begun, "qat", whole)]
    small = _pruned(begun)
    rows.append(_file(begun, "pruned", small, WHOLE))
    if reason := _against(begun, rows[0], rows[-1]):
        begun.log.warn(f"{reason}: nothing more is built on it")
        return rows
    return [*rows, *_smaller(begun, "pruned ", small), _quantized(begun, "pruned qat", small)]


def _against(begun: Compression, whole: Mapping[str, Any], cut: Mapping[str, Any]) -> str | None:
    """Why the pruned detector is not built on; None where it is within the budget and faster."""
    config = begun.config
    if not fits(cut, whole, config.max_drop):
        lost = "it does not match its checkpoint"
        if cut["passed"]:
            lost = f"AP {cut['ap'] or 0.0:.4f} is below {whole['ap'] - config.max_drop:.4f}"
        return f"pruned to keep={config.keep:g}, {lost} (try a larger keep=, steps= or epochs=)"
    note = begun.folder / "pruned-speed.json"
    if not (known := read_note(note)):
        files = {each["name"]: Path(each["file"]) for each in (whole, cut)}
        taken = seconds_of_files(files, config.threads)
        known = {"speedup": taken[whole["name"]] / taken[cut["name"]]}
        write_json(note, known)
    if known["speedup"] <= 1:
        return f"pruned to keep={config.keep:g}, it is no faster ({known['speedup']:.2f}x)"
    return None


def _smaller(begun: Compression, prefix: str, weights: Path) -> list[dict[str, Any]]:
    """The files of a float checkpoint in the smaller precisions that the format has on a CPU."""
    precisions = [*["fp16"] * ("cpu" in FORMATS[begun.config.target].half_on), FULL]
    return [_file(begun, f"{prefix}{each}", weights, each) for each in precisions]


def _quantized(begun: Compression, name: str, weights: Path) -> dict[str, Any]:
    """The 8-bit file of a checkpoint after quantization-aware training."""
    folder = begun.folder / name.replace(" ", "-")
    place = {"project": str(begun.folder), "name": folder.name, "exist_ok": True, "qat": "int8"}
    own = begun.given - {"epochs", "lr0"}  # those are of the training after pruning
    options, given = training_of(begun.config, own, str(weights), 1, **place)
    best = train_once(folder, (options, given - {"epochs"}), _machine(begun))
    return _file(begun, name, best, FULL)


def _pruned(begun: Compression) -> Path:
    """The pruned and trained weights."""
    folder = begun.folder / "pruned"
    if (folder / "results.json").is_file():
        return folder / BEST
    values, known = asdict(begun.config), options_of(PruneConfig)
    names = (begun.given | {"model"}) - {*COMPRESSION, "name", "exist_ok", "project"}
    words = {name: values[name] for name in names if name in known}
    place: dict[str, Any] = {"project": str(begun.folder), "name": folder.name, "exist_ok": True}
    if (folder / PRUNE.state).is_file():
        words, place = _machine(begun), {"resume": str(folder)}
    prune(*parse(PruneConfig, {**words, **place}), Log(verbose=begun.config.verbose))
    return folder / BEST


def _machine(begun: Compression) -> dict[str, Any]:
    """The options that may differ when a part goes on."""
    return {name: getattr(begun.config, name) for name in MACHINE & begun.given}


def _file(begun: Compression, name: str, weights: Path, precision: str) -> dict[str, Any]:
    """One exported file, proven and measured on ``split=``; made once."""
    config, target = begun.config, FORMATS[begun.config.target]
    stem = name.replace(" ", "-")
    note = begun.folder / f"candidate-{stem}.json"
    if row := read_note(note):
        return dict(row)
    place = begun.folder / "files" / f"{stem}{target.folder or target.suffix}"
    place.parent.mkdir(exist_ok=True)
    shared = {"split", "imgsz", "images", "names", "allow", "seed", "threads", "nms", "iou",
              "max_det", "agnostic_nms", "download", "offline"}  # fmt: skip
    words = {n: getattr(config, n) for n in shared & begun.given & options_of(ExportConfig).keys()}
    usual = {"model": str(weights), "data": config.data, "format": config.target,
             "output": str(place), "max_drop": config.max_drop}  # fmt: skip
    options, _ = parse(ExportConfig, {**usual, **words, **PRECISION_OPTIONS[precision]})
    model, meta = restore(weights)
    result = export(options, weights, meta, model.eval(), fetched=False, log=begun.log)
    (entry,) = result["exports"]
    row = {
        "name": name, "precision": precision, "weights": str(weights), "file": entry["file"],
        "bytes": entry["bytes"], "passed": entry["passed"],
        "ap": entry["parity"]["ap"][1] if entry["parity"]["ap"] else None,
    }  # fmt: skip
    write_json(note, row)
    return dict(plain(row))


def _finish(begun: Compression, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Time all files in turn, choose one, write table and picture."""
    config, folder = begun.config, begun.folder
    proven = {row["name"]: Path(row["file"]) for row in rows if row["passed"]}
    taken = seconds_of_files(proven, config.threads)
    base = rows[0]
    for row in rows:
        row["ms"] = 1000 * taken[row["name"]] if row["passed"] else None
        row["speedup"] = taken[WHOLE] / taken[row["name"]] if row["passed"] else None
        row["size"] = row["bytes"] / base["bytes"]
        row["fits"] = fits(row, base, config.max_drop)
    chosen = min((row for row in rows if row["fits"]), key=lambda row: row["ms"])
    for row in rows:
        row["best"] = [kind for kind in ("ms", "bytes") if row in front(rows, kind)]
    source = Path(chosen["file"])
    deploy = folder / f"deploy{FORMATS[config.target].folder or source.suffix}"
    if source.is_dir():
        shutil.copytree(source, deploy, dirs_exist_ok=True)
    else:
        for part in FORMATS[config.target].files(source):
            shutil.copyfile(part, deploy.with_suffix(part.suffix))
    show(rows, chosen["name"], begun.log)
    results = plain({
        "folder": str(folder), "deploy": str(deploy), "chosen": chosen["name"],
        "max_drop": config.max_drop, "target": config.target, "rows": rows,
    })  # fmt: skip
    write_json(folder / "results.json", results)
    if config.plots:
        plot_compression(rows, chosen["name"], config.max_drop, folder / "compress.png")
    return dict(results)


def fits(row: Mapping[str, Any], base: Mapping[str, Any], max_drop: float) -> bool:
    """Whether a file is proven and loses at most ``max_drop``, counted from the whole fp32 file."""
    return bool(row["passed"] and row["ap"] is not None and row["ap"] >= base["ap"] - max_drop)


def front(rows: Sequence[Mapping[str, Any]], cost: str) -> list[Mapping[str, Any]]:
    """The proven files that no cheaper one equals in AP (Pareto), the cheapest first.

    cost: ``ms`` or ``bytes``."""
    best, found = -1.0, []
    proven = [row for row in rows if row["passed"] and row["ap"] is not None]
    for row in sorted(proven, key=lambda row: (row[cost], -row["ap"])):
        if row["ap"] > best:
            best = row["ap"]
            found.append(row)
    return found


def show(rows: list[dict[str, Any]], chosen: str, log: Log) -> None:
    """The table in the terminal."""
    cells = []
    for row in rows:
        verdict = CHOSEN if row["name"] == chosen else "yes" if row["fits"] else "no"
        speed = ("-", "-") if row["ms"] is None else (f"{row['ms']:.1f}", f"{row['speedup']:.2f}x")
        cells.append((
            row["name"], "-" if row["ap"] is None else f"{row['ap']:.4f}", *speed,
            f"{row['bytes'] / 1e6:.2f}", f"{row['size']:.2f}x",
            verdict if row["passed"] else "MISMATCH",
        ))  # fmt: skip
    heads = ("file", "AP", "ms", "images/s", "MB", "size", "in the budget")
    log.table("compressed", heads, cells)
