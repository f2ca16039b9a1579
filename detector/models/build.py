"""Name or Architecture -> Detector, and back.

One module per family; each has ``SIZES`` (its table) and ``build(size, num_classes)``.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...weights.architecture import MAX_CLASSES, Architecture, ArchitectureError, model_name
from . import yolo11, yolo26, yolov8, yolov9, yolox
from .blocks import Attention, Conv
from .detector import Detector

FAMILIES = {"yolo26": yolo26, "yolo11": yolo11, "yolov8": yolov8, "yolov9": yolov9, "yolox": yolox}
"""Name of a family -> its module."""
NAMES = {
    model_name(family, size): (family, size)
    for family, module in FAMILIES.items()
    for size in module.SIZES
}
"""Every name that can be built -> (family, size)."""
MAX_PARAMETERS = 500_000_000


def build(name: str, num_classes: int) -> Detector:
    """A detector with random weights from torch's global generator; seed it to repeat them.

    Raises ValueError for an unknown name (with the nearest known ones) and for num_classes below 1.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(NAMES)}"
        raise ValueError(f"there is no model named {name!r}: {hint}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: a detector needs at least 1 class")
    family, size = NAMES[name]
    return FAMILIES[family].build(size, num_classes)


def build_from(architecture: Architecture) -> Detector:
    """A detector with exactly these widths and random weights.

    Raises ArchitectureError if the family or a convolution is unknown, the widths do not fit each
    other, or there are more than MAX_PARAMETERS.  The meta device checks this without memory.
    """
    if architecture.name not in NAMES:
        raise ArchitectureError(f"there is no model {architecture.name!r}: update yolodet")
    model = build(architecture.name, architecture.num_classes)
    if architecture_of(model) == architecture:
        return model
    with torch.device("meta"):
        shadow = _resize(build(architecture.name, architecture.num_classes), architecture)
        _check(shadow, architecture)
    return _resize(model, architecture)


def architecture_of(model: Detector) -> Architecture:
    """The architecture of a detector, for its checkpoint."""
    if model.unfused is not None:
        return model.unfused
    family, size = NAMES[model.name]
    modules = dict(model.named_modules())
    first = f"head.{model.branches[0]}.boxes.0"
    boxes = modules[f"{first}.{len(list(modules[first].children())) - 1}"]
    assert isinstance(boxes, nn.Conv2d)
    return Architecture(
        family=family,
        size=size,
        num_classes=model.num_classes,
        reg_max=boxes.out_channels // 4,
        branches=model.branches,
        widths={
            path: (module.in_channels, module.out_channels, module.groups)
            for path, module in modules.items()
            if isinstance(module, nn.Conv2d)
        },
        heads={path: m.heads for path, m in modules.items() if isinstance(m, Attention)},
    )


def architecture_from(name: str, num_classes: int, tensors: Mapping[str, Tensor]) -> Architecture:
    """The architecture of the detector ``name`` with the widths of ``tensors``, for files that give
    only a name.  Head branches may be missing in ``tensors``."""
    if num_classes > MAX_CLASSES:
        raise ArchitectureError(f"{num_classes} classes: the limit is {MAX_CLASSES}")
    with torch.device("meta"):
        model = build(name, num_classes)
    here = [b for b in model.branches if any(key.startswith(f"head.{b}.") for key in tensors)]
    if here:
        model.drop(branch for branch in model.branches if branch not in here)
    usual = architecture_of(model)
    widths = dict(usual.widths)
    for path, (c_in, c_out, groups) in usual.widths.items():
        weight = tensors.get(f"{path}.weight")
        if weight is not None and weight.ndim == 4:
            groups = weight.shape[0] if groups == c_in == c_out else groups  # depthwise
            widths[path] = (weight.shape[1] * groups, weight.shape[0], groups)
    return replace(usual, widths=widths)


def with_classes(architecture: Architecture, num_classes: int) -> Architecture:
    """The same model for another number of classes, with every branch of its family.

    A missing branch gets the widths of the existing one, if the family builds both alike.
    """
    with torch.device("meta"):
        usual = build(architecture.name, num_classes)
    whole = architecture_of(usual)
    outputs = {key.rpartition(".")[0] for key in usual.class_keys}
    widths = {}
    for path, width in whole.widths.items():
        room, _, inside = path.partition(".")
        rest = inside.partition(".")[2]
        twins = [path, *(f"head.{b}.{rest}" for b in architecture.branches if room == "head")]
        found = next(
            (t for t in twins if t in architecture.widths and whole.widths.get(t) == width), None
        )
        c_in, c_out, groups = architecture.widths[found] if found else width
        widths[path] = (c_in, num_classes if path in outputs else c_out, groups)
    return replace(whole, widths=widths, heads={**whole.heads, **architecture.heads})


def _resize(model: Detector, architecture: Architecture) -> Detector:
    """Give ``model`` the branches and widths of ``architecture``, in place."""
    unknown = [branch for branch in architecture.branches if branch not in model.branches]
    model.drop(branch for branch in model.branches if branch not in architecture.branches)
    convs = {path: m for path, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    attentions = {path: m for path, m in model.named_modules() if isinstance(m, Attention)}
    unknown += sorted(architecture.widths.keys() ^ convs.keys())
    unknown += sorted(architecture.heads.keys() ^ attentions.keys())
    if unknown:
        raise ArchitectureError(f"{model.name} and its description differ in {unknown[0]}")
    for path, conv in convs.items():
        if architecture.widths[path] != (conv.in_channels, conv.out_channels, conv.groups):
            _replace(model, path, conv, architecture.widths[path])
    for path, attention in attentions.items():
        values, all_three = attention.position.conv.in_channels, attention.qkv.conv.out_channels
        attention.heads = architecture.heads[path]
        attention.value_dim = values // attention.heads
        attention.key_dim = (all_three - values) // (2 * attention.heads)
    if isinstance(second := model.auxiliary, yolov9.SecondBackbone):
        ends = [0, *(link.out_channels for link in (second.link3, second.link4, second.link5))]
        first, middle, last = (b - a for a, b in itertools.pairwise(ends))
        second.splits = (first, middle, last)
    return model


def _replace(model: Detector, path: str, old: nn.Conv2d, width: tuple[int, int, int]) -> None:
    """Replace ``old``, and the norm behind it, by a new convolution of another width."""
    c_in, c_out, groups = width
    device = old.weight.device
    new = nn.Conv2d(
        *(c_in, c_out, old.kernel_size, old.stride, old.padding),  # type: ignore[arg-type]
        groups=groups,
        bias=old.bias is not None,
        device=device,
    )
    if old.bias is not None and c_out == old.out_channels:
        new.bias = old.bias  # the initial bias of a head
    model.set_submodule(path, new)
    block = model.get_submodule(path.rpartition(".")[0])
    if isinstance(block, Conv) and isinstance(block.norm, nn.BatchNorm2d):
        norm = block.norm
        block.norm = type(norm)(c_out, eps=norm.eps, momentum=norm.momentum, device=device)


def _check(model: Detector, wanted: Architecture) -> None:
    """Raise ArchitectureError if a model on the meta device is too large or cannot compute."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise ArchitectureError(f"the model has {count} parameters: the limit is {MAX_PARAMETERS}")
    side = 2 * model.max_stride
    try:
        found = model.eval()(torch.empty(1, 3, side, side, device="meta"))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ArchitectureError(f"the widths do not fit each other ({reason})") from error
    for branch, predictions in found.items():
        shape = predictions.logits.shape[-1], predictions.distances.shape[-1]
        if shape != (wanted.num_classes, 4 * wanted.reg_max):
            raise ArchitectureError(
                f"the branch {branch} has {shape[0]} classes and {shape[1]} box channels: expected "
                f"{wanted.num_classes} and {4 * wanted.reg_max}"
            )
