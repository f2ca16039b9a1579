"""The few calls a checkpoint may ask for, done by us: tensors, containers, numbers of NumPy.

A ``Name`` is a global as the file spells it, never imported.  A ``Stub`` stands for an object of a
module class.  ``CALLABLE`` maps each allowed name to a function of this file; there is no other way
from a file to a call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .errors import ImportFailed, Name, RefusedPickle, spell
from .storages import DTYPES, Storage

_DTYPE_NAMES = {str(dtype): dtype for dtype in set(DTYPES.values())}
_CLASS_HOMES = ("torch.nn.", "ultralytics.", "models.", "yolox.", "yolo.", "omegaconf.")
_PLAIN_CLASSES = frozenset(("argparse.Namespace", "types.SimpleNamespace"))
_NUMPY_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b"} | {
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"
}  # fmt: skip


@dataclass(eq=False)
class Stub:
    """An object of a foreign class: its class's name and its attributes."""

    kind: Name
    state: dict[Any, Any] = field(default_factory=dict)

    def set_state(self, state: Any) -> None:
        """Take the attributes of a pickled object: a dictionary, or one of slots beside it."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state.update(part)
            elif part is not None:
                self.state["__state__"] = part


def is_module_class(name: Name) -> bool:
    """Whether objects of this class are held as stubs: classes of model code, without any dots."""
    if str(name) in _PLAIN_CLASSES:
        return True
    return (
        name.module.startswith(_CLASS_HOMES) and name.name.isidentifier() and name.name[0].isupper()
    )


def rebuild(path: Path, function: Any, arguments: tuple[Any, ...]) -> Any:
    """What an allowed call gives; RefusedPickle, by name, for any other."""
    handler = CALLABLE.get(str(function)) if isinstance(function, Name) else None
    if handler is None:
        raise RefusedPickle(path, function)
    return handler(path, arguments)


def _tensor(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """A view (storage, offset, size, stride, ...) of a storage, checked against its length."""
    storage, offset, size, stride = arguments[:4]
    size, stride = tuple(size), tuple(stride)
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ImportFailed(f"{path} is damaged: a tensor with an impossible shape")
    values = storage.values
    count = 1
    for extent in size:
        count *= extent
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if count and (last >= len(values) or count > len(values)):
        raise ImportFailed(f"{path} is damaged: a tensor of shape {size} reaches past its storage")
    return values.as_strided(size, stride if count else (1,) * len(size), min(offset, len(values)))


def _tensor_v3(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """As ``_tensor`` with a dtype: (storage, offset, size, stride, grad, hooks, dtype, ...)."""
    storage, dtype = arguments[0], _DTYPE_NAMES.get(spell(arguments[6]))
    if dtype is None or not isinstance(storage, Storage):
        raise ImportFailed(f"{path} holds a tensor of the unsupported type {spell(arguments[6])}")
    raw = storage.values.view(torch.uint8)
    typed = raw.view(dtype)
    return _tensor(path, (Storage(dtype, typed), *arguments[1:4]))


def _first(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """A parameter is its tensor."""
    if not isinstance(arguments[0], torch.Tensor):
        raise ImportFailed(f"{path} is damaged: a parameter without a tensor")
    return arguments[0]


def _typed(path: Path, arguments: tuple[Any, ...]) -> Any:
    """A tensor with Python attributes: (function, type, arguments, state)."""
    return rebuild(path, arguments[0], arguments[2])


def _reconstructed(path: Path, arguments: tuple[Any, ...]) -> Stub:
    """An object pickled by an old protocol: (class, base, state)."""
    if not isinstance(arguments[0], Name) or not is_module_class(arguments[0]):
        raise RefusedPickle(path, arguments[0], "to create an object")
    return Stub(arguments[0])


def plain_key(value: Any) -> Any:
    """A key: a plain value or a flat tuple of such, so that hashing it is no work to speak of."""
    for part in value if isinstance(value, tuple) else (value,):
        if not isinstance(part, str | int | float | bytes | Name | None):
            raise TypeError(f"a {type(part).__name__} as a key")
    return value


def _sequence(kind: type) -> Callable[[Path, tuple[Any, ...]], Any]:
    """A list or tuple of the elements of another container."""

    def make(path: Path, arguments: tuple[Any, ...]) -> Any:
        return kind(_elements(arguments))

    return make


def _unique(kind: type) -> Callable[[Path, tuple[Any, ...]], Any]:
    """A set of plain values."""

    def make(path: Path, arguments: tuple[Any, ...]) -> Any:
        return kind(plain_key(value) for value in _elements(arguments))

    return make


def _mapping(path: Path, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """A dictionary, from pairs or from another one."""
    if arguments and isinstance(arguments[0], dict):
        return dict(arguments[0])
    return {plain_key(key): value for key, value in _elements(arguments)}


def _elements(arguments: tuple[Any, ...]) -> Iterable[Any]:
    """What a container is made of: nothing, or one other container."""
    if arguments and not isinstance(arguments[0], list | tuple | set | frozenset | dict):
        raise TypeError(f"a container made of a {type(arguments[0]).__name__}")
    return arguments[0] if arguments else ()


def _text(path: Path, arguments: tuple[Any, ...]) -> str:
    """A path or a device, kept as its words."""
    return "/".join(str(part) for part in arguments if isinstance(part, str | int))


def _default_dict(path: Path, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """A dictionary; what it would call for a missing key is left out."""
    return {}


def _encoded(path: Path, arguments: tuple[Any, ...]) -> bytes:
    """Bytes, as protocol 2 spells them: (text, "latin1")."""
    text, encoding = arguments
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedPickle(path, "_codecs.encode", "with another encoding than latin1")
    return text.encode("latin1")


def _numpy_dtype(path: Path, arguments: tuple[Any, ...]) -> Stub:
    """A dtype by its code, such as f8."""
    return Stub(Name("numpy", "dtype"), {"code": spell(arguments[0])})


def _numpy_scalar(path: Path, arguments: tuple[Any, ...]) -> Any:
    """One little-endian number: (dtype, bytes)."""
    kind, data = arguments
    code = kind.state.get("code") if isinstance(kind, Stub) else None
    layout = _NUMPY_FORMATS.get(str(code).lstrip("<|="))
    if layout is None or not isinstance(data, bytes) or len(data) != struct.calcsize(layout):
        raise ImportFailed(f"{path} holds a NumPy value of the unsupported type {spell(code)}")
    return struct.unpack("<" + layout, data)[0]


CALLABLE: dict[str, Callable[[Path, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": _sequence(tuple),
    "torch.device": _text,
    "pathlib.PosixPath": _text,
    "pathlib.WindowsPath": _text,
    "pathlib.Path": _text,
    "pathlib._local.PosixPath": _text,
    "pathlib._local.WindowsPath": _text,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_dict,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "copy_reg._reconstructor": _reconstructed,
    "copyreg._reconstructor": _reconstructed,
} | {
    f"{home}.{name}": handler
    for home in ("builtins", "__builtin__")
    for name, handler in {
        "set": _unique(set),
        "frozenset": _unique(frozenset),
        "list": _sequence(list),
        "tuple": _sequence(tuple),
        "dict": _mapping,
    }.items()
}
