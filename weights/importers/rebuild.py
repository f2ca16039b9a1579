"""The calls that a checkpoint may ask for: they make tensors, containers and NumPy numbers.

``CALLABLE`` maps each allowed name to a function of this file, which does the work instead; no
other call of a file is possible.  A ``Stub`` replaces an object of a module class.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .errors import ImportFailed, Name, RefusedPickle, printable
from .storages import DTYPES, Storage

_DTYPE_NAMES = {str(dtype): dtype for dtype in set(DTYPES.values())}
_CLASS_HOMES = ("torch.nn.", "ultralytics.", "models.", "yolox.", "yolo.", "omegaconf.")
_PLAIN_CLASSES = frozenset(("argparse.Namespace", "types.SimpleNamespace"))
_NUMPY_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b"} | {
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"
}  # fmt: skip


@dataclass(eq=False)
class Stub:
    """Replaces an object of another project's class: the name of the class and the attributes."""

    kind: Name
    state: dict[Any, Any] = field(default_factory=dict)

    def set_state(self, state: Any) -> None:
        """Set attributes from a pickled state: a dictionary, or a pair (dictionary, slots)."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state.update(part)
            elif part is not None:
                self.state["__state__"] = part


def is_module_class(name: Name) -> bool:
    """Whether objects of this class become stubs: classes of model code, not nested ones."""
    if str(name) in _PLAIN_CLASSES:
        return True
    return (
        name.module.startswith(_CLASS_HOMES) and name.name.isidentifier() and name.name[0].isupper()
    )


def rebuild(path: Path, function: Any, arguments: tuple[Any, ...]) -> Any:
    """The result of an allowed call.  Raises RefusedPickle for any other."""
    handler = CALLABLE.get(str(function)) if isinstance(function, Name) else None
    if handler is None:
        raise RefusedPickle(path, function)
    return handler(path, arguments)


def _tensor(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """(storage, offset, size, stride, ...) -> a view of the storage, within its bounds."""
    storage, offset, size, stride = arguments[:4]
    size, stride = tuple(size), tuple(stride)
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ImportFailed(f"{path} is damaged: a tensor has an impossible shape")
    values = storage.values
    count = 1
    for extent in size:
        count *= extent
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if count and (last >= len(values) or count > len(values)):
        raise ImportFailed(f"{path} is damaged: a tensor of shape {size} reaches past its storage")
    return values.as_strided(size, stride if count else (1,) * len(size), min(offset, len(values)))


def _tensor_v3(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """(storage, offset, size, stride, grad, hooks, dtype, ...) -> a tensor of this dtype."""
    storage, dtype = arguments[0], _DTYPE_NAMES.get(printable(arguments[6]))
    if dtype is None or not isinstance(storage, Storage):
        raise ImportFailed(f"{path} has a tensor of unsupported type {printable(arguments[6])}")
    typed = storage.values.view(torch.uint8).view(dtype)
    return _tensor(path, (Storage(dtype, typed), *arguments[1:4]))


def _first(path: Path, arguments: tuple[Any, ...]) -> torch.Tensor:
    """(tensor, ...) -> the tensor of a parameter."""
    if not isinstance(arguments[0], torch.Tensor):
        raise ImportFailed(f"{path} is damaged: a parameter without a tensor")
    return arguments[0]


def _typed(path: Path, arguments: tuple[Any, ...]) -> Any:
    """(function, type, arguments, state) -> a tensor; its Python attributes are ignored."""
    return rebuild(path, arguments[0], arguments[2])


def _reconstructed(path: Path, arguments: tuple[Any, ...]) -> Stub:
    """(class, base, state), the old protocol's way to make an object -> a stub."""
    if not isinstance(arguments[0], Name) or not is_module_class(arguments[0]):
        raise RefusedPickle(path, arguments[0], "to create an object")
    return Stub(arguments[0])


def plain_key(value: Any) -> Any:
    """``value`` if it is plain or a flat tuple of plain values, so that hashing it is cheap."""
    for part in value if isinstance(value, tuple) else (value,):
        if not isinstance(part, str | int | float | bytes | Name | None):
            raise TypeError(f"a {type(part).__name__} as a key")
    return value


def _sequence(kind: type) -> Callable[[Path, tuple[Any, ...]], Any]:
    """Makes a list or tuple of the elements of another container."""
    return lambda path, arguments: kind(_elements(arguments))


def _unique(kind: type) -> Callable[[Path, tuple[Any, ...]], Any]:
    """Makes a set of plain values."""
    return lambda path, arguments: kind(plain_key(value) for value in _elements(arguments))


def _mapping(path: Path, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """A dictionary, from pairs or from another dictionary."""
    if arguments and isinstance(arguments[0], dict):
        return dict(arguments[0])
    return {plain_key(key): value for key, value in _elements(arguments)}


def _elements(arguments: tuple[Any, ...]) -> Iterable[Any]:
    """The elements of the container that is the only argument; () without an argument."""
    if arguments and not isinstance(arguments[0], list | tuple | set | frozenset | dict):
        raise TypeError(f"a container made of a {type(arguments[0]).__name__}")
    return arguments[0] if arguments else ()


def _text(path: Path, arguments: tuple[Any, ...]) -> str:
    """A path or a device, as text."""
    return "/".join(str(part) for part in arguments if isinstance(part, str | int))


def _encoded(path: Path, arguments: tuple[Any, ...]) -> bytes:
    """(text, "latin1"), as protocol 2 writes bytes -> bytes."""
    text, encoding = arguments
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedPickle(path, "_codecs.encode", "with another encoding than latin1")
    return text.encode("latin1")


def _numpy_dtype(path: Path, arguments: tuple[Any, ...]) -> Stub:
    """(code such as "f8", ...) -> a stub with the code."""
    return Stub(Name("numpy", "dtype"), {"code": printable(arguments[0])})


def _numpy_scalar(path: Path, arguments: tuple[Any, ...]) -> Any:
    """(dtype, bytes) -> one little-endian number."""
    kind, data = arguments
    code = kind.state.get("code") if isinstance(kind, Stub) else None
    layout = _NUMPY_FORMATS.get(str(code).lstrip("<|="))
    if layout is None or not isinstance(data, bytes) or len(data) != struct.calcsize(layout):
        raise ImportFailed(f"{path} holds a NumPy value of the unsupported type {printable(code)}")
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
    "collections.defaultdict": lambda path, arguments: {},  # without its default factory
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
