"""Transfer tensors from a checkpoint to a model, and report what did not fit.

A tensor is copied if name and shape agree.  Tensors with one row per class (dimension 0 of the last
class convolution) are copied row by row, by class name.  Nothing is cut, padded or averaged: a
tensor that does not fit keeps its initial value and is reported with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor

from ..files.counted import counted
from ..files.errors import InputError

NOT_IN_MODEL = "the model has no tensor of this name"
NOT_IN_CHECKPOINT = "not in the checkpoint; keeps its initial value"
NO_EQUAL_CLASS = "no class of the checkpoint has the name of a class here; keeps its initial value"
SYNONYMS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Pascal VOC's name of a class -> COCO's, where both data sets label the same things."""


class TransferError(InputError):
    """No tensor of a checkpoint fits."""


@dataclass(frozen=True)
class Transfer:
    """The result of ``transfer``.

    loaded: name -> tensor with the model's shape, dtype and device, for ``load_state_dict``.
    left_out: (name, reason): checkpoint tensors not used, then model tensors not filled.
    by_class: names of the loaded tensors whose rows were matched by class name.
    classes: classes whose rows were copied; empty if no row had to be matched.
    synonyms: (name here, name in the checkpoint) of those that are spelled differently.
    num_classes, num_tensors: how many the model has.
    """

    loaded: dict[str, Tensor]
    left_out: list[tuple[str, str]]
    by_class: tuple[str, ...]
    classes: tuple[str, ...]
    synonyms: tuple[tuple[str, str], ...]
    num_classes: int
    num_tensors: int

    def report(self) -> str:
        """A summary in one line."""
        line = f"transferred {len(self.loaded)} of {counted(self.num_tensors, 'tensor')}"
        if self.by_class:
            shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
            of = counted(self.num_classes, "class")
            line += f"; {len(self.classes)} of {of} by name ({shown})"
        elif any(reason == NO_EQUAL_CLASS for _, reason in self.left_out):
            line += "; no class has the name of one in the checkpoint: the class layers start fresh"
        if self.synonyms:
            line += "; synonyms " + ", ".join(f"{here} = {there}" for here, there in self.synonyms)
        return line + (f"; {len(self.left_out)} left out" if self.left_out else "")

    def details(self) -> str:
        """The summary, then one line per tensor that was left out."""
        rows = [f"  {name}: {reason}" for name, reason in self.left_out]
        return "\n".join([self.report(), *rows]) + "\n"


@dataclass(frozen=True)
class _ClassRows:
    """Which tensors have one row per class, and which old row becomes which new one."""

    num_from: int
    num_to: int
    keys: Sequence[str] | None
    pairs: list[tuple[int, int]]

    def has(self, name: str, source: Tensor, target: Tensor) -> bool:
        """Whether the tensor has one row per class in both models and the same other sizes."""
        sizes = ((self.num_from, *source.shape[1:]), (self.num_to, *source.shape[1:]))
        if source.ndim == 0 or (tuple(source.shape), tuple(target.shape)) != sizes:
            return False
        return self.keys is None or any(fnmatchcase(name, key) for key in self.keys)

    def copy(self, source: Tensor, target: Tensor) -> Tensor:
        """``target`` with the rows of equal classes from ``source``; other rows are unchanged."""
        old, new = (list(ids) for ids in zip(*self.pairs, strict=True))
        result = target.detach().clone()
        result[new] = source.detach()[old].to(target.device, target.dtype)
        return result


def transfer(
    state: Mapping[str, Tensor],
    model_state: Mapping[str, Tensor],
    *,
    class_names_from: Sequence[str],
    class_names_to: Sequence[str],
    class_keys: Sequence[str] | None = None,
) -> Transfer:
    """Select the tensors of ``state`` (a checkpoint) that fit ``model_state`` (a new model).

    class_names_from, class_names_to: names by class id; empty where unknown: no row is matched.
    class_keys: name patterns (``*`` matches anything, dots too) of the tensors whose dimension 0
    is the class.  None deduces them: dimension 0 goes from the old to the new number of classes
    and no other size changes.  That cannot distinguish a hidden layer as wide as the number of
    classes, and fails for equal numbers of different classes: pass the patterns if you know them.

    Raises TransferError if no tensor fits, ValueError if the patterns cannot be deduced.
    """
    rows = _class_rows(list(class_names_from), list(class_names_to), class_keys)
    loaded: dict[str, Tensor] = {}
    left_out = [(name, NOT_IN_MODEL) for name in state if name not in model_state]
    by_class: list[str] = []
    for name, target in model_state.items():
        source = state.get(name)
        if source is None:
            left_out.append((name, NOT_IN_CHECKPOINT))
        elif rows and rows.has(name, source, target):
            if not rows.pairs:
                left_out.append((name, NO_EQUAL_CLASS))
                continue
            loaded[name] = rows.copy(source, target)
            by_class.append(name)
        elif source.shape == target.shape:
            loaded[name] = source.detach().to(target.device, target.dtype, copy=True)
        else:
            reason = f"shape {_shape(source)} in the checkpoint, {_shape(target)} here"
            left_out.append((name, reason))
    if not loaded:
        raise TransferError(
            f"none of the checkpoint's {counted(len(state), 'tensor')} fits one of this model's "
            f"{len(model_state)}: "
            "use a checkpoint of the same model family and size"
        )
    pairs = rows.pairs if rows and by_class else []
    names = [(class_names_to[new], class_names_from[old]) for old, new in pairs]
    return Transfer(
        loaded=loaded,
        left_out=left_out,
        by_class=tuple(by_class),
        classes=tuple(here for here, _ in names),
        synonyms=tuple(pair for pair in names if _plain(pair[0]) != _plain(pair[1])),
        num_classes=len(class_names_to),
        num_tensors=len(model_state),
    )


def _class_rows(
    names_from: list[str], names_to: list[str], keys: Sequence[str] | None
) -> _ClassRows | None:
    """How to match rows; None if the classes are equal or unknown, so that no row moves."""
    if names_from == names_to or not names_from or not names_to:
        return None
    if keys is None and len(names_from) == len(names_to):
        raise ValueError(
            f"both models have {len(names_to)} classes but their names differ: "
            "give class_keys, the patterns of the tensors with one row per class"
        )
    return _ClassRows(len(names_from), len(names_to), keys, equal_classes(names_from, names_to))


def equal_classes(names_from: list[str], names_to: list[str]) -> list[tuple[int, int]]:
    """(old id, new id) of classes with equal names: exactly, else ignoring case, else with VOC's
    and COCO's spellings of a class taken as equal."""
    exact = {name: index for index, name in enumerate(names_from)}
    loose = {_plain(name): index for index, name in enumerate(names_from)}
    alike = {_canonical(name): index for index, name in enumerate(names_from)}
    taken = {_plain(name) for name in names_to}
    pairs = []
    for new, name in enumerate(names_to):
        old = exact.get(name, loose.get(_plain(name)))
        if old is None:
            old = alike.get(_canonical(name))
            if old is not None and _plain(names_from[old]) in taken:
                old = None  # the class that has this name itself takes the row
        if old is not None:
            pairs.append((old, new))
    return pairs


def _plain(name: str) -> str:
    return name.strip().casefold()


def _canonical(name: str) -> str:
    return SYNONYMS.get(_plain(name), _plain(name))


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"
