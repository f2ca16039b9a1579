"""Energy counters: the joules that a device has used so far.

NVIDIA boards (Volta and later) are read through NVML (nvidia-ml-py).  Intel and AMD
processors have a counter per package (RAPL), which Linux shows in /sys/class/powercap, on most
systems to root only.  The difference of two readings includes idle power and other programs.

Left out: main memory, fans and the rest of the machine, and devices that report power only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ...files.errors import DetError

POWERCAP = Path("/sys/class/powercap")
"""RAPL on Linux: one folder ``intel-rapl:N`` per package, also on AMD."""
NOT_HERE = "not measurable here"


class EnergyMeter(Protocol):
    """A counter that only grows.  source: what it covers, in words."""

    source: str

    def joules(self) -> float:
        """Joules since an arbitrary moment."""
        ...


class NotMeasurable(DetError):
    """There is no readable counter; the message says why."""


def find_meter(
    device: torch.device, powercap: Path = POWERCAP
) -> tuple[EnergyMeter | None, str]:
    """(counter of a device, what it covers), or (None, the reason)."""
    try:
        if device.type == "cuda":
            uuid = torch.cuda.get_device_properties(device).uuid
            meter: EnergyMeter = NvmlMeter(f"GPU-{uuid}", _import_nvml())
        elif device.type == "cpu":
            meter = RaplMeter(powercap)
        else:
            raise NotMeasurable(f"{device.type} has no energy counter")
        meter.joules()
    except NotMeasurable as error:
        return None, f"{NOT_HERE}: {error}"
    return meter, meter.source


class NvmlMeter:
    """The board of an NVIDIA GPU.  uuid: as ``nvidia-smi -L`` prints it, with ``GPU-``.  nvml: the
    module ``pynvml`` of nvidia-ml-py.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver
    was loaded; the counter moves some ten times per second).
    """

    source = "NVML, the whole GPU board"

    def __init__(self, uuid: str, nvml: Any) -> None:
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        except nvml.NVMLError as error:
            raise NotMeasurable(f"NVML: {error}") from error

    def joules(self) -> float:
        """Joules since the driver was loaded."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise NotMeasurable(f"NVML: {error}") from error


def _import_nvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise NotMeasurable("needs nvidia-ml-py: pip install 'yolodet[nvml]'") from error
    return pynvml


class RaplMeter:
    """The processor packages of this machine.

    Source: Linux kernel documentation, power/powercap: ``energy_uj`` counts microjoules up to
    ``max_energy_range_uj`` and begins again at zero.
    """

    source = "RAPL, all processor packages"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = _packages(powercap)
        self._ranges = [_read_number(zone / "max_energy_range_uj") for zone in self._zones]
        self._last = self._readings()
        self._total = 0

    def joules(self) -> float:
        """Joules since this object was made.  Call it before a counter wraps around twice."""
        now = self._readings()
        for after, before, size in zip(now, self._last, self._ranges, strict=True):
            self._total += (after - before) % max(size, 1)
        self._last = now
        return self._total / 1e6

    def _readings(self) -> list[int]:
        return [_read_number(zone / "energy_uj") for zone in self._zones]


def _packages(powercap: Path) -> Sequence[Path]:
    """Zones of processor packages.  Their parts (core, dram) and the platform would count twice."""
    zones = sorted(powercap.glob("intel-rapl:*"))
    packages = [zone for zone in zones if _read_text(zone / "name").startswith("package")]
    if not packages:
        raise NotMeasurable(f"no processor package counts its energy in {powercap}")
    return packages


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise NotMeasurable(f"{path} cannot be read: {error.strerror}") from error


def _read_number(path: Path) -> int:
    text = _read_text(path)
    if not text.isdigit():
        raise NotMeasurable(f"{path} holds no number: {text[:20]!r}")
    return int(text)
