"""A pickle interpreter that never imports or calls what the file names.

It executes the opcodes like Python's unpickler, with three differences: a global becomes a ``Name``
(text), an object of a known module class becomes a ``Stub``, and a call is looked up in our own
table in ``rebuild``.  Everything else is refused.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ImportFailed, Name, RefusedPickle
from .rebuild import Stub, is_module_class, plain_key, rebuild
from .storages import Storages

MAX_COPIED = 50_000_000
"""Limit of items that calls may copy, so that a small file cannot fill the memory."""

_MARK = object()
_SIZED = (str, bytes, list, tuple, dict, set, frozenset)
_VALUES = frozenset(
    [
        *["BINFLOAT", "FLOAT", "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"],
        *["BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE", "BINBYTES", "BINBYTES8"],
        *["SHORT_BINBYTES", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING", "STRING"],
    ]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_FRESH = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset(("PROTO", "FRAME"))


@dataclass
class Machine:
    """Interprets pickles.  path: the file, for messages.  storages: the numbers of the tensors."""

    path: Path
    storages: Storages
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    copied: int = 0

    def run(self, pickle: bytes) -> Any:
        """The value of one pickle."""
        return self.run_next(io.BytesIO(pickle))

    def run_next(self, stream: io.BytesIO) -> Any:
        """The value of the next pickle of a stream, which is left at the end of that pickle."""
        self.stack, self.memo = [], {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            raise ImportFailed(f"{self.path} holds a broken pickle: {error}") from error
        raise ImportFailed(f"{self.path} holds a pickle without an end")

    def _step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _TUPLES:
            self._tuple_of(_TUPLES[name])
        elif name not in _IGNORED:
            handler = getattr(self, f"_op_{name.lower()}", None)
            if handler is None:
                raise RefusedPickle(self.path, f"the opcode {name}", "no checkpoint needs it")
            handler(argument)

    def _above_mark(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        above: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            above.append(value)
        return above[::-1]

    def _op_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _op_pop(self, _: Any) -> None:
        self.stack.pop()

    def _op_pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _op_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _op_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _op_binget = _op_long_binget = _op_get

    def _op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._above_mark()))

    def _tuple_of(self, count: int) -> None:
        """Replace the last ``count`` values by a tuple of them."""
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _op_list(self, _: Any) -> None:
        self.stack.append(self._above_mark())

    def _op_dict(self, _: Any) -> None:
        self.stack.append(dict(_pairs(self._above_mark())))

    def _op_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(plain_key(value) for value in self._above_mark()))

    def _op_append(self, _: Any) -> None:
        value = self.stack.pop()
        _expect(self.stack[-1], list).append(value)

    def _op_appends(self, _: Any) -> None:
        values = self._above_mark()
        _expect(self.stack[-1], list).extend(values)

    def _op_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _expect(self.stack[-1], dict)[plain_key(key)] = value

    def _op_setitems(self, _: Any) -> None:
        items = self._above_mark()
        _expect(self.stack[-1], dict).update(_pairs(items))

    def _op_additems(self, _: Any) -> None:
        values = self._above_mark()
        _expect(self.stack[-1], set).update(plain_key(value) for value in values)

    def _op_global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(Name(module, name))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(_expect(module, str), _expect(name, str)))

    def _op_binpersid(self, _: Any) -> None:
        self.stack.append(self.storages.storage(self.stack.pop()))

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.copied += sum(len(a) for a in _expect(arguments, tuple) if isinstance(a, _SIZED))
        if self.copied > MAX_COPIED:
            raise ImportFailed(f"{self.path} is refused: it unpacks to far more than it stores")
        self.stack.append(rebuild(self.path, function, arguments))

    def _op_newobj(self, _: Any) -> None:
        self.stack.pop()  # the arguments, which a stub does not need
        kind = self.stack.pop()
        self.stack.append(self._stub(kind, "create"))

    def _op_newobj_ex(self, _: Any) -> None:
        raise RefusedPickle(self.path, self.stack[-3], "with keywords")

    def _op_inst(self, argument: str) -> None:
        raise RefusedPickle(self.path, argument.replace(" ", "."), "by an outdated opcode")

    def _op_obj(self, _: Any) -> None:
        raise RefusedPickle(self.path, self._above_mark()[0], "by an outdated opcode")

    def _stub(self, kind: Any, verb: str) -> Stub:
        if not isinstance(kind, Name) or not is_module_class(kind):
            raise RefusedPickle(self.path, kind, f"to {verb} an object")
        return Stub(kind)

    def _op_build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stub):
            target.set_state(state)
        elif isinstance(target, Name):
            raise RefusedPickle(self.path, target, "with a state")
        # Attributes of a dictionary or a tensor (state_dict's _metadata) hold no weights: ignored.


def _expect(value: Any, kind: type) -> Any:
    """``value``.  Raises TypeError if it is not of this type."""
    if not isinstance(value, kind):
        raise TypeError(f"a {kind.__name__} was expected, not {type(value).__name__}")
    return value


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    """[key, value, key, value, ...] -> pairs."""
    return zip(map(plain_key, items[::2]), items[1::2], strict=True)
