"""TorchScript, run by libtorch: for C++ programs and older services that load torch files.

The graph is traced; sizes stay symbolic, so one file accepts any.  Metadata are extra files of the
archive.  A file runs on the device that it was written on.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from .about import FIELDS
from .interface import Runner, Settings
from .torch_runner import TorchRunner


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Trace the graph."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecation, and checks that tracing drops
        traced = torch.jit.trace(graph, graph.example(settings.shape), check_trace=False)
        buffer = io.BytesIO()  # torch's own errors of a full disk do not say so
        torch.jit.save(torch.jit.freeze(traced), buffer, _extra_files=dict(texts))
    path.write_bytes(buffer.getvalue())


def read_about(path: Path) -> dict[str, str]:
    """The extra files.  Raises ExportError for a file that is not TorchScript."""
    texts: dict[str, str | bytes] = dict.fromkeys(FIELDS, "")
    _load(path, torch.device("cpu"), texts)
    return {n: t.decode() if isinstance(t, bytes) else t for n, t in texts.items() if t}


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """The module on ``device``."""
    return TorchRunner(_load(path, device, {}), device, threads)


def _load(
    path: Path, device: torch.device, texts: dict[str, str | bytes]
) -> torch.jit.ScriptModule:
    """The module; fills in ``texts``.  Raises ExportError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(path, map_location=device, _extra_files=texts)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"{path} is not a whole TorchScript file ({reason})") from error
