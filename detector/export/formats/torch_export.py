"""torch.export's ``.pt2``: the graph of torch operators, for AOTInductor and torch.

It refuses sizes outside the exported range.  Metadata are extra files of the archive.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from .about import FIELDS
from .interface import Runner, Settings
from .torch_int8 import decomposed, with_integers
from .torch_runner import TorchRunner


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Save the exported program."""
    save(graph.program(settings.shape), path, texts)


def save(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    """Save a program with its metadata."""
    buffer = io.BytesIO()  # torch's own errors of a full disk do not say so
    torch.export.save(program, buffer, extra_files=dict(texts))
    path.write_bytes(buffer.getvalue())


def read_about(path: Path) -> dict[str, str]:
    """The extra files, without loading the program.  Raises ExportError for a damaged archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {Path(name).name: name for name in archive.namelist()}
            found = {name: inside[name] for name in FIELDS if name in inside}
            return {name: archive.read(place).decode() for name, place in found.items()}
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not a whole .pt2 file ({error})") from error


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """The program, on the device that it was written on.  Raises ExportError for another device or
    a damaged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = "int8" in read_about(path).get("precision", "")
            if quantized:
                decomposed()  # or torch would not know the operations of the file
            module = torch.export.load(path).module()
            home = next((p.device.type for p in module.parameters()), device.type)
            if quantized:
                module = with_integers(module)
    except (RuntimeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"{path} cannot be loaded by torch.export ({reason})") from error
    if home != device.type:
        raise ExportError(f"{path} was written on {home} and runs there only, not on {device}")
    return TorchRunner(module, device, threads)
