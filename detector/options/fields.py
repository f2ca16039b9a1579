"""What a config class says about its fields: type, range, words, heading, documentation.

One ``Knob`` a field is all that the parser, the help and the docs page need; none of them lists
fields of its own.  Python does not keep the docstring under a field, so it is read from the source.
"""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints


@dataclass(frozen=True)
class Knob:
    """One field of a config class.

    kind: int, float, bool or str.  optional: whether None is a value.  low, high: inclusive range,
    None where open.  choices: the allowed words, empty where free.  doc: the docstring below it.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    group: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    doc: str

    @property
    def is_switch(self) -> bool:
        """Whether ``--name`` alone and ``--no-name`` make sense: True and False are values."""
        return self.kind is bool or {"true", "false"} <= set(self.choices)

    @property
    def expected(self) -> str:
        """What may be given, in words: ``a whole number from 1``."""
        if self.kind is bool:
            return "True or False"
        if self.choices:
            words = ", ".join(self.choices)
            return "one of " + words.replace("true", "True").replace("false", "False")
        text = {int: "a whole number", float: "a number", str: "text"}[self.kind] + self.limits
        return text + (" or none" if self.optional and self.kind is not str else "")

    @property
    def limits(self) -> str:
        """The inclusive range in words, "" where open: `` from 0 to 1``."""
        low = "" if self.low is None else f" from {self.low:g}"
        high = "" if self.high is None else f" to {self.high:g}"
        return low + high

    @property
    def example(self) -> str:
        """One assignment that is accepted: ``epochs=100``."""
        value = self.default
        if value is None:
            whole = 640 if (self.low or 0) >= 32 else 8
            value = {int: whole, float: 0.1, bool: True, str: "VALUE"}[self.kind]
        return f"{self.name}={value}"

    @property
    def wanted(self) -> str:
        """What to type instead of something wrong: the expected values and an example."""
        if self.kind is str and not self.choices:
            return f"expected text: {self.doc}"
        return f"expected {self.expected}, e.g. {self.example}"

    def check(self, value: Any) -> None:
        """Raise ValueError where ``value``, of the right type, is outside the range or choices."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name}={value}: {self.wanted}")
        if self.kind not in (int, float):
            return
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if not low <= value <= high:  # also true for NaN
            raise ValueError(f"{self.name}={value:g} is out of range: {self.wanted}")


CFG = Knob(
    name="cfg", kind=str, optional=True, default=None, group="Run", low=None, high=None, choices=(),
    doc="YAML file of options, such as det config prints; what is typed beside it wins.",
)
"""Not a field of any config: it is where values come from."""


_READ: dict[type[Any], dict[str, Knob]] = {}


def knobs(config_class: type[Any]) -> dict[str, Knob]:
    """The knobs of a config class by name: its own in the order of the source, then its bases'."""
    if config_class not in _READ:
        _READ[config_class] = _read(config_class)
    return _READ[config_class]


def _read(config_class: type[Any]) -> dict[str, Knob]:
    hints = get_type_hints(config_class)
    docs = _docs(config_class)
    made = {}
    for entry in fields(config_class):
        arguments = get_args(hints[entry.name])
        kinds = [kind for kind in arguments or (hints[entry.name],) if kind is not NoneType]
        made[entry.name] = Knob(
            name=entry.name,
            kind=kinds[0],
            optional=NoneType in arguments,
            default=None if entry.default is MISSING else entry.default,
            doc=docs.get(entry.name, ""),
            **entry.metadata,
        )
    return {name: made[name] for name in sorted(made, key=list(docs).index)}


def _docs(config_class: type[Any]) -> dict[str, str]:
    """Field name -> docstring ("" where there is none), the class itself first, then its bases."""
    found: dict[str, str] = {}
    for base in config_class.__mro__[:-1]:
        tree = _classes(base.__module__)[base.__name__]
        for entry, text in zip(tree.body, [*tree.body[1:], None], strict=True):
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                found.setdefault(entry.target.id, _string(text))
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, by name, as written in its source."""
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _string(node: ast.stmt | None) -> str:
    """The text of a statement that is a string, else nothing."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value))
    return ""


def knob(
    default: Any,
    group: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A config field: its default, help group, inclusive range and allowed words."""
    metadata = {"group": group, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=metadata)
