"""Which model a training starts from where the user named none, or ``model=auto``.

With few images the start decides nearly everything (docs/log.md: 0.015 AP from scratch against 0.44
and more from COCO weights with 132 photographs).  Imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from ...files.counted import counted
from ...weights.shelf import is_here
from ...weights.zoo import PERMISSIVE, ZOO
from ..options.names import AUTO, MODELS
from ..options.train import TrainConfig

TrainT = TypeVar("TrainT", bound=TrainConfig)

FEW_IMAGES = 10_000
"""From about as many images on, training from scratch catches up (He et al. 2019, Rethinking
ImageNet pre-training)."""
SMALL = sorted(
    (name for name, entry in ZOO.items() if entry.license in PERMISSIVE),
    key=lambda name: ZOO[name].parameters,
)
"""Names of the zoo that anyone may use, the smallest first."""


def _is_built_in(data: str) -> bool:
    from ...datasets.sets.locate import is_built_in  # with the network's modules

    return is_built_in(data)


def choose_start(config: TrainT, given: frozenset[str]) -> tuple[TrainT, list[str]]:
    """The config with a ``model=``, and a line that says what was chosen and why.

    Without ``model=`` the smallest weights on disk are taken, and nothing is asked of the network;
    data sets of det stay with the default model.  ``model=auto`` takes weights for every data set.
    Where none are on disk it stays ``auto`` unless ``offline=True``: the run downloads some when it
    begins (``fetch.py``).
    """
    asked = config.model == AUTO
    if "model" in given and not asked:
        return config, []
    plain = replace(config, model=MODELS[0])
    if config.resume is not None or config.pretrained not in (None, True):
        return plain, []
    if not asked and (config.pretrained is True or _is_built_in(config.data)):
        return plain, []
    name = next((name for name in SMALL if is_here(name)), None)
    if name is None:
        return (config if asked and not config.offline else plain), []
    return replace(config, model=name), [chosen_line(name, "are on disk")]


def chosen_line(name: str, where: str) -> str:
    """What was chosen, under which license, and what to type for a start from scratch."""
    entry = ZOO[name]
    return (
        f"model={name} is chosen: its {entry.trained_on} weights ({entry.license}) {where}; "
        f"model={MODELS[0]} trains from scratch"
    )


def better_start(config: TrainConfig, images: int) -> str | None:
    """What would be better for a run that starts from scratch, and what to type; None where that
    is not certain or the user wants it so.

    config: of the run.  images: number of training images.
    """
    if config.pretrained is False or images >= FEW_IMAGES or _is_built_in(config.data):
        return None
    name = SMALL[0]
    entry = ZOO[name]
    return (
        f"{counted(images, 'image')} are few for a start from scratch: model={name} starts from "
        f"{entry.trained_on} weights ({entry.license}, {entry.parameters:g} M parameters)"
    )
