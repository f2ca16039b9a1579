"""What a config class says about its options: type, range, choices, group and documentation.

One ``Option`` per field is all that the parser, the help and the docs page need; none of them lists
options of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

FIRST = ("model", "source", "data")
"""Options that head their group."""


@dataclass(frozen=True)
class Option:
    """One field of a config class.

    kinds: the types of its values, of int, float, bool, str and tuple; item: the type of a tuple's
    items.  optional: whether None is a value.  low, high: inclusive range, None where open.
    choices: the allowed values, empty where free.  or_folder: whether a folder that exists may be
    named instead of a choice.  or_share: whether auto, or a share below 1, may be given instead of
    a number.  doc: one or two sentences for the user.
    """

    name: str
    kinds: tuple[type, ...]
    optional: bool
    default: Any
    group: str
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str | bool, ...] = ()
    item: type = str
    or_folder: bool = False
    or_share: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether ``--name`` alone and ``--no-name`` are understood."""
        typed = self.kinds == (bool,) or {True, False} <= set(self.choices)
        return typed or self.default is True

    @property
    def expected(self) -> str:
        """What may be given, in words: ``a whole number from 1``."""
        if self.kinds == (bool,):
            return "True or False"
        if self.choices:
            folder = ", or a folder" if self.or_folder else ""
            return "one of " + ", ".join(map(str, self.choices)) + folder
        if {bool, tuple} <= set(self.kinds):
            return "True, False or names separated by commas"
        if tuple in self.kinds:
            numbers = f"a side or height,width{self.limits}"
            return numbers if self.item is int else "a whole number or names separated by commas"
        kind = {int: "a whole number", float: "a number", str: "text"}[self.kinds[-1]]
        if self.or_share:
            return f"{kind}{self.limits}, a share of the memory below 1, or auto"
        kind = f"auto or {kind}" if self.kinds == (str, float) else kind
        kind = f"True, False or {kind}" if bool in self.kinds and float in self.kinds else kind
        return kind + self.limits + (" or none" if self.optional and kind != "text" else "")

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
            if self.item is int:
                return f"{self.name}=640,512"
            whole = 640 if (self.low or 0) >= 32 else 8
            value = {int: whole, float: 0.1, bool: True, str: "VALUE"}[self.kinds[0]]
        return f"{self.name}={value}"

    @property
    def wanted(self) -> str:
        """What to type instead of something wrong: the expected values and an example."""
        if self.kinds[-1] is str and not (self.choices or self.or_share):
            return f"expected text: {self.doc}"
        return f"expected {self.expected}, e.g. {self.example}"

    def check(self, value: Any) -> None:
        """Raise ValueError where ``value``, of the right type, is outside the range or choices."""
        if value is None:
            return
        if self.choices and value not in self.choices and not self.or_folder:
            raise ValueError(f"{self.name}={value}: {self.wanted}")
        if isinstance(value, tuple) and self.item is int:
            if len(value) != 2:
                shown = ",".join(map(str, value))
                raise ValueError(f"{self.name}={shown}: {self.wanted}")
            for side in value:
                self.check(side)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if self.or_share and 0 < value < 1:
            return
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if not low <= value <= high:  # also true for NaN
            raise ValueError(f"{self.name}={value:g} is out of range: {self.wanted}")


CFG = Option(
    "cfg", (str,), True, None, "Run",
    "YAML file of options, such as det config prints. What is typed beside it wins.",
)  # fmt: skip
"""Not a field of any config: it is where values come from."""


def option(
    default: Any,
    group: str,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str | bool, ...] = (),
    or_folder: bool = False,
    or_share: bool = False,
) -> Any:
    """A config field: its default, help group, documentation, inclusive range and choices."""
    metadata = {"group": group, "doc": doc, "low": low, "high": high, "choices": choices}
    more = {"or_folder": or_folder, "or_share": or_share}
    return field(default=default, metadata={**metadata, **more})


_READ: dict[type[Any], dict[str, Option]] = {}


def options_of(config_class: type[Any]) -> dict[str, Option]:
    """The options of a config class by name: its own in the order of the source, then its bases'.
    The dictionary is shared: do not change it."""
    if config_class not in _READ:
        _READ[config_class] = _read_class(config_class)
    return _READ[config_class]


def without_of(config_class: type[Any]) -> Mapping[str, str]:
    """The inherited options that a command does not have -> what to do instead: its class attribute
    ``without``."""
    found: Mapping[str, str] = getattr(config_class, "without", {})
    return found


def _read_class(config_class: type[Any]) -> dict[str, Option]:
    hints = get_type_hints(config_class)
    own_first = dict.fromkeys(
        name for base in config_class.__mro__ for name in getattr(base, "__annotations__", ())
    )
    ordered = sorted(own_first, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    entries = {entry.name: entry for entry in fields(config_class)}
    kept = [name for name in ordered if name in entries and name not in without_of(config_class)]
    return {name: _read(name, hints[name], entries[name]) for name in kept}


def _read(name: str, hint: Any, entry: Any) -> Option:
    alternatives = get_args(hint) if get_origin(hint) is not tuple and get_args(hint) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in alternatives if kind is not NoneType)
    items = [get_args(kind)[0] for kind in alternatives if get_origin(kind) is tuple]
    return Option(
        name=name,
        kinds=kinds,
        optional=NoneType in alternatives,
        default=entry.default,
        item=items[0] if items else str,
        **entry.metadata,
    )


HEADINGS = ("Run", "Search", "Pruning", "Statistics", "Data", "Model", "Precision", "Optimizer",
            "Loss", "Augmentation", "Detections", "Tracks", "Output", "Terminal")  # fmt: skip
"""Groups of options, in order."""


def by_group(options: Mapping[str, Option]) -> dict[str, list[Option]]:
    """The options under their headings, in the order of HEADINGS."""
    groups = sorted({option.group for option in options.values()}, key=HEADINGS.index)
    return {name: [o for o in options.values() if o.group == name] for name in groups}


def value_kind(option: Option) -> str:
    """What an option takes, short: ``INT>=1``, ``0..1``, ``auto|True|False``."""
    if option.kinds == (bool,):
        return "True|False"
    if option.choices:
        return "|".join(map(str, option.choices))
    if {bool, tuple} <= set(option.kinds):
        return "True|False|NAMES"
    if tuple in option.kinds:
        return "INT|HEIGHT,WIDTH" if option.item is int else "INT|NAMES"
    kind = {int: "INT", float: "NUMBER", str: "TEXT"}[option.kinds[-1]]
    if bool in option.kinds:
        return f"True|False|{kind}"
    if option.or_share:
        return f"{kind}>={option.low:g}|0..1|auto"
    if option.kinds == (str, float):
        return f"auto|{option.low:g}..{option.high:g}"
    if option.low is None and option.high is None:
        return kind
    return f"{kind}>={option.low:g}" if option.high is None else f"{option.low:g}..{option.high:g}"
