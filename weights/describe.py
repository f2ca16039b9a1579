"""Facts about a checkpoint file, for ``det info`` and ``det weights info``.

A ``.safetensors`` checkpoint is described from its header, and its checksum is verified, without
torch.  Other files are read by the importers, which execute no code of the file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .checkpoint import CheckpointError, Meta, is_state, load_state, read_header, read_meta
from .training_state import check_state
from .zoo import license_notice

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
"""Suffixes of tensors that are buffers, not parameters."""
STATE_SUFFIXES = (".pt", ".pth")


def describe_file(path: Path) -> dict[str, Any]:
    """Facts about a checkpoint, as plain data.

    Raises CheckpointError if it is damaged or not a checkpoint, ImportFailed (RefusedPickle) for
    such a file of another project.
    """
    if path.suffix not in STATE_SUFFIXES:
        found = _describe_weights(path)
    elif is_state(path):
        found = _describe_state(path)
    else:
        found = _describe_foreign(path)
    notice = license_notice(path.name, found["license"], found["provenance"])
    return {"file": path.name, **found} | ({"notice": notice} if notice else {})


def _describe_weights(path: Path) -> dict[str, Any]:
    meta = read_meta(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(size))
        start = file.tell()
    table.pop("__metadata__")
    try:
        digest = _digest(path, table, start)
        shapes = {name: (entry["shape"], entry["dtype"]) for name, entry in table.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its table of tensors is broken") from error
    whole = digest == read_header(path).get("sha256")
    return {
        "kind": "weights",
        **_plain(meta),
        **_count({name: math.prod(shape) for name, (shape, _) in shapes.items()}),
        "dtypes": sorted({dtype for _, dtype in shapes.values()}),
        "bytes": path.stat().st_size,
        "checksum": "correct" if whole else "WRONG: the file is damaged, use another copy",
    }


def _digest(path: Path, table: Mapping[str, Any], start: int) -> str:
    """The sha256 that the header should have (see save_weights)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for name in sorted(table):
            begin, end = table[name]["data_offsets"]
            file.seek(start + begin)
            digest.update(name.encode())
            digest.update(file.read(end - begin))
    return digest.hexdigest()


def _describe_state(path: Path) -> dict[str, Any]:
    state = load_state(path)
    check_state(state, path)
    meta = Meta.from_dict(state["meta"], path)
    place = {key: state["position"].get(key) for key in ("epoch", "batch", "updates")}
    return {
        "kind": "training state: continue with resume=, or use best.safetensors next to it",
        **_plain(meta),
        **_count({name: tensor.numel() for name, tensor in state["model"].items()}),
        "position": place,
        "epochs": state["epochs"],
        "best_map": state["position"].get("best_map"),
        "bytes": path.stat().st_size,
    }


def _describe_foreign(path: Path) -> dict[str, Any]:
    from .importers import import_checkpoint  # torch

    found = import_checkpoint(path)
    return {
        "kind": f"checkpoint of {found.provenance['project']}",
        "model": found.name,
        "num_classes": found.num_classes,
        "class_names": list(found.class_names or ()),
        "license": found.license,
        "provenance": provenance_text(found.provenance),
        "preprocess": dict(found.preprocess),
        **_count({name: tensor.numel() for name, tensor in found.tensors.items()}),
        "notes": list(found.notes),
        "bytes": path.stat().st_size,
    }


def provenance_text(facts: Mapping[str, str]) -> str:
    """Provenance of an imported file, in one line."""
    rest = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "project")
    return f"{facts['project']}: {rest}" if rest else facts["project"]


def _plain(meta: Meta) -> dict[str, Any]:
    """The fields of Meta; of the architecture, the number of convolutions instead of the list."""
    values: dict[str, Any] = asdict(meta)
    if own := values["architecture"]:
        own["convolutions"] = len(own.pop("widths"))
        del own["heads"]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _count(numbers: Mapping[str, int]) -> dict[str, int]:
    """Tensors, and how many of their numbers are parameters."""
    learned = sum(n for name, n in numbers.items() if not name.endswith(STATISTICS))
    return {"tensors": len(numbers), "parameters": learned}
