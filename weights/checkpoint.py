"""The checkpoints of a run: ``best.safetensors`` to use, ``last.pt`` to resume from.

The format is described in docs/checkpoint.md:

- ``best.safetensors``: the averaged weights and a JSON header (Meta) that is read without loading a
  tensor, without torch and without executing anything.  The header holds a sha256 of the tensor
  bytes.
- ``last.pt``: everything that a run needs to continue as if it had never stopped.  Only tensors and
  plain data, so nothing of it is executed; the zip's checksums are verified first.

Both are written to a temporary file in the same folder, flushed to disk and renamed.  So a complete
file exists at any time: the old one or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.atomic import write_atomically
from ..files.counted import counted
from ..files.errors import DetError
from ..files.regular import open_regular, read_regular
from .architecture import MAX_CLASSES, Architecture, ArchitectureError

if TYPE_CHECKING:  # reading a header needs no torch
    from torch import Tensor

SCHEMA = 3
"""3: ``image_size`` may be (height, width), images may have one channel, and there are
``quantization`` and ``fp32_stages``: older versions would not round weights, and compute every
stage in half precision.  2: the architecture replaces ``class_width``, ``licence`` became
``license``."""
GRAY = "gray"
"""``preprocess["channels"]`` of a model whose images have one channel."""
USUAL_SCHEMA = 2
"""Of files that have nothing of schema 3, so that older versions read them."""
QUANTIZATIONS = ("int8",)
"""What a checkpoint may have been trained to be rounded to."""
HEADER_LIMIT = 64 * 2**20
MAX_SIDE = 16_384
"""Pixels of an input."""
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
"""That a checkpoint may have been validated in."""
MAX_VALUES = 2_000_000
"""In a training state: options, positions and rows, a few per tensor and epoch."""
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, EOFError, OSError),
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
)
"""Exceptions that zipfile and torch raise for a damaged file."""


class CheckpointError(DetError):
    """A file is not a checkpoint of det, is damaged, or was written by a newer version."""


@dataclass(frozen=True)
class Meta:
    """What a checkpoint says about itself.  Plain data; no absolute path and no host name."""

    model: str
    class_names: tuple[str, ...]
    image_size: int | tuple[int, int]
    strides: tuple[int, ...]
    precision: str
    fp32_stages: tuple[str, ...] = ()
    """Stages of the model that compute in float32 although ``precision`` is a half precision."""
    architecture: Architecture | None = None
    """None in files of schema 1, where the widths follow from the shapes of the tensors."""
    quantization: str | None = None
    """int8: the tensors are those of a model that simulates 8 bits, norms folded, with ranges."""
    schema: int = USUAL_SCHEMA
    epoch: int = 0
    step: int = 0
    license: str = "Apache-2.0"
    provenance: str = "trained from scratch"
    data: dict[str, Any] = field(default_factory=dict)
    """name, fingerprints, sizes and stand_in_for of the data set; ``yaml`` as it was typed."""
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    confidence: dict[str, Any] = field(default_factory=dict)
    """What ``conf=auto`` uses: rule, all, and classes with a number or None each."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def pixels(self) -> str:
        """The rule by which images of more than 8 bits are read; files without it divide by 256."""
        return str(self.preprocess.get("pixels", "raw"))

    @property
    def channels(self) -> int:
        """Of the images that the model reads: 1 (gray) or 3."""
        return 1 if self.preprocess.get("channels") == GRAY else 3

    @property
    def rect(self) -> bool:
        """Whether inputs are cut to the shape of each image."""
        return self.preprocess.get("rect") is True

    @staticmethod
    def from_dict(data: Mapping[str, Any], path: Path) -> Meta:
        """Build a Meta from a header; unknown fields are ignored.  Raises CheckpointError."""
        schema = data.get("schema")
        if type(schema) is not int:
            raise CheckpointError(
                f"{path} is not a checkpoint of det: its header has no schema version"
            )
        if schema > SCHEMA:
            raise CheckpointError(
                f"{path} has checkpoint schema {schema}, this version reads up to {SCHEMA}: "
                "update yolodet"
            )
        known = {f.name for f in fields(Meta)}
        values = {key: value for key, value in data.items() if key in known}
        if "licence" in data:  # schema 1
            values.setdefault("license", data["licence"])
        try:
            _check_types(values)
            values["class_names"] = tuple(values["class_names"])
            values["strides"] = tuple(values["strides"])
            values["fp32_stages"] = tuple(values.get("fp32_stages", ()))
            if isinstance(values["image_size"], list):
                values["image_size"] = tuple(values["image_size"])
            if values.get("architecture") is not None:
                values["architecture"] = Architecture.from_plain(values["architecture"])
                _check_agreement(values)
            return Meta(**values)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: the checkpoint header is incomplete ({error})"
            ) from error
        except ArchitectureError as error:
            raise CheckpointError(
                f"{path} describes no model that can be built: {error}"
            ) from error


TYPES: dict[str, type] = {
    **dict.fromkeys(("model", "precision", "license", "provenance"), str),
    **dict.fromkeys(("epoch", "step"), int),
    **dict.fromkeys(("data", "metrics", "config", "preprocess", "versions", "confidence"), dict),
}


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise TypeError for a field of another type than Meta has."""
    for name, kind in TYPES.items():
        if name in values and not isinstance(values[name], kind):
            raise TypeError(f"{name} is not of type {kind.__name__}")
    size, precision = values["image_size"], values["precision"]
    sides = size if isinstance(size, list | tuple) and len(size) == 2 else [size]
    if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise TypeError(
            f"image_size is not a number of pixels from 1 to {MAX_SIDE}, and not two of them"
        )
    if precision not in PRECISIONS:
        raise TypeError(f"precision is {precision[:20]!r}, not one of {', '.join(PRECISIONS)}")
    wanted = values.get("quantization")
    if wanted is not None and wanted not in QUANTIZATIONS:
        raise TypeError(f"quantization is {str(wanted)[:20]!r}, not {' or '.join(QUANTIZATIONS)}")
    staged = values.get("fp32_stages", ())
    if not isinstance(staged, list | tuple) or not all(type(name) is str for name in staged):
        raise TypeError("fp32_stages is not a list of names")
    for name, kind, limit in (("class_names", str, MAX_CLASSES), ("strides", int, 8)):
        items = values[name]
        if not isinstance(items, list | tuple) or not 0 < len(items) <= limit:
            raise TypeError(f"{name} is not a list of 1 to {limit} entries")
        if not all(type(item) is kind for item in items):
            raise TypeError(f"{name} has an entry that is not of type {kind.__name__}")
    if not all(1 <= stride <= MAX_SIDE for stride in values["strides"]):
        raise TypeError(f"strides has an entry that is not from 1 to {MAX_SIDE}")


def _check_agreement(values: Mapping[str, Any]) -> None:
    """Raise ArchitectureError if model or class count differ between architecture and header."""
    own, count = values["architecture"], len(values["class_names"])
    if (own.name, own.num_classes) != (values["model"], count):
        raise ArchitectureError(
            f"the architecture is a {own.name} of {counted(own.num_classes, 'class')}, the header "
            f"says {values['model']} with {count}"
        )


def save_weights(path: Path, tensors: Mapping[str, Tensor], meta: Meta) -> None:
    """Write ``best.safetensors`` atomically.  Tensors keep their dtype."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = json.dumps(asdict(meta))
    own = hashlib.sha256(about.encode()).hexdigest()
    header = {"det": about, "det_sha256": own, "sha256": digest_of(tensors)}
    payload = save(tensors, metadata=header)
    write_atomically(path, lambda file: file.write(payload))


def load_weights(path: Path) -> tuple[dict[str, Tensor], Meta]:
    """Tensors and Meta of a ``.safetensors`` checkpoint.  Raises CheckpointError on damage."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = read_header(path)
    meta = Meta.from_dict(_json(header.get("det", ""), path), path)
    try:
        tensors = load(read_regular(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}): use another copy") from error
    if digest_of(tensors) != header.get("sha256"):
        raise CheckpointError(
            f"{path} is damaged: its tensors do not match their checksum; use another copy"
        )
    return tensors, meta


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read without torch and without loading a tensor."""
    try:
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= HEADER_LIMIT:
                raise CheckpointError(f"{path} is not a safetensors file")
            header = _json(file.read(size), path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("det"), str):
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of det")
    own = hashlib.sha256(str(metadata["det"]).encode()).hexdigest()
    if metadata.get("det_sha256", own) != own:  # the first files have no such entry
        raise CheckpointError(f"{path} is damaged: its header does not match its checksum")
    return metadata


def read_meta(path: Path) -> Meta:
    """Meta of a ``.safetensors`` checkpoint without its tensors."""
    return Meta.from_dict(_json(read_header(path)["det"], path), path)


PLAIN = (type(None), bool, int, float, str)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``last.pt`` atomically.  Raises TypeError for a value that load_state would refuse."""
    import torch

    _check_plain(state, torch.Tensor, "state")
    schema = state["meta"]["schema"] if "meta" in state else USUAL_SCHEMA
    write_atomically(path, lambda file: torch.save({"schema": schema, **state}, file))


def _check_plain(value: Any, tensor: type, where: str) -> None:
    """Raise TypeError for anything but tensors and the PLAIN types (subclasses are refused too)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, tensor, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, tensor, f"{where}[{index}]")
    elif type(value) not in PLAIN and not isinstance(value, tensor):
        kind = type(value).__name__
        raise TypeError(f"{where} is a {kind}: a state holds tensors and plain data only")


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state written by save_state; no code in the file is executed, and it cannot
    ask for more memory than it is long (torch's own reader lets it ask for any).

    Raises CheckpointError."""
    from .importers.errors import ImportFailed
    from .importers.unpickle import read_checkpoint

    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bomb(path, archive.infolist())
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} is damaged at {broken}: use an older copy")
        state = read_checkpoint(path)
        _refuse_alien(path, state)
    except (CheckpointError, PermissionError):
        raise
    except (ImportFailed, MemoryError, RecursionError, *DAMAGE) as error:
        plain = str(error).removeprefix(f"{path} ").removeprefix("is refused: ")
        reason = re.sub(r"\x1b\[[0-9;]*m", "", plain).strip().split("\n")[0]
        raise CheckpointError(
            f"{path} is damaged: not a whole training checkpoint ({reason}); use an older copy"
        ) from error
    schema = state.get("schema") if isinstance(state, dict) else None
    if type(schema) is not int:
        raise CheckpointError(f"{path} is not a training checkpoint of det")
    if schema > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {schema}, this version reads up to {SCHEMA}: update yolodet"
        )
    return state


def _refuse_alien(path: Path, state: Any) -> None:
    """Raise CheckpointError for anything but tensors and plain data, and for more of it than fits
    into a file without aliases: a list may hold itself, or the same list a million times."""
    import torch

    left, count = [state], 0
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            left += value
        elif type(value) not in PLAIN and not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise CheckpointError(f"{path} is refused: it holds a {kind}, which det never writes")
        if count + len(left) > MAX_VALUES:
            raise CheckpointError(f"{path} is refused: it holds more than {MAX_VALUES:,} values")


def is_state(path: Path) -> bool:
    """Whether a ``.pt`` file looks like a training state of det, from its first bytes.

    Imports no torch and unpickles nothing; load_state verifies the rest.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return len(inside) == 1 and b"schema" in archive.open(inside[0]).read(64)
    except DAMAGE:
        return False


def _refuse_bomb(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise CheckpointError for compressed entries: torch.save writes none, a zip bomb has some."""
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(
            f"{path} is refused: it is compressed, which det never does (a zip bomb)"
        )


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 of the names and bytes of tensors, wherever they are."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _json(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: its header is not a JSON object")
    return value
