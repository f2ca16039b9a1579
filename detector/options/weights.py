"""The options of ``det weights`` and ``det info``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """det info: versions and devices, or what a model or checkpoint is."""

    model: str | None = knob(None, "Run")
    """A model name or a checkpoint. Default: describe this machine instead."""


@dataclass(frozen=True, kw_only=True)
class WeightsListConfig:
    """det weights list: show the pretrained weights that can be downloaded."""


@dataclass(frozen=True, kw_only=True)
class WeightsInfoConfig:
    """det weights info: show what a checkpoint says about itself; nothing in it is run."""

    model: str | None = knob(None, "Run")
    """A checkpoint, of det or of another project, or a name of det weights list."""


@dataclass(frozen=True, kw_only=True)
class WeightsConvertConfig:
    """det weights convert: make a checkpoint of det from one of another project."""

    file: str | None = knob(None, "Run")
    """The .pt or .pth to read; nothing in it is run."""
    out: str | None = knob(None, "Output")
    """The .safetensors to write; it must not exist."""


@dataclass(frozen=True, kw_only=True)
class WeightsDownloadConfig:
    """det weights download: fetch pretrained weights into the weights folder."""

    model: str | None = knob(None, "Run")
    """A name of det weights list."""
    offline: bool = knob(False, "Run")
    """Ask no network: convert what was put into the folder by hand."""
    accept_license: str | None = knob(None, "Run")
    """Name of the licence to agree to, where the weights ask for it."""
