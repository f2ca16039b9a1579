"""Energy counters: the joules a device has used so far, where the machine tells them.

NVIDIA boards count by themselves (NVML, Volta and later) and are asked through the driver's own
library, so nothing has to be installed for it.  Intel and AMD processors count a package (RAPL);
Linux shows that in /sys/class/powercap, on most systems to root alone.  The difference of two
readings is what everything that ran in between has used, idle draw and other programs included.

Left out: main memory, fans and the rest of the machine, and devices that only tell their power.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ...files.errors import DetError

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows RAPL: a folder ``intel-rapl:N`` a package, also on AMD."""
NVML = "libnvidia-ml.so.1"
NOT_HERE = "not measurable here"


class EnergyMeter(Protocol):
    """A counter that only grows.  source: what is counted, in words."""

    source: str

    def joules(self) -> float:
        """Joules used since some moment in the past; two readings make a measurement."""
        ...


class NotMeasurable(DetError):
    """There is no counter, or it may not be read; the message says why."""


def find_meter(
    device: torch.device, powercap: Path = POWERCAP, load: Callable[[str], Any] = ctypes.CDLL
) -> tuple[EnergyMeter | None, str]:
    """The counter of a device and what it counts; or None and the reason.

    load: opens a shared library; raises OSError where it is not there.
    """
    try:
        if device.type == "cuda":
            uuid = torch.cuda.get_device_properties(device).uuid
            meter: EnergyMeter = NvmlMeter(load, f"GPU-{uuid}")
        elif device.type == "cpu":
            meter = RaplMeter(powercap)
        else:
            raise NotMeasurable(f"{device.type} has no energy counter")
        meter.joules()
    except NotMeasurable as error:
        return None, f"{NOT_HERE}: {error}"
    return meter, meter.source


class NvmlMeter:
    """The board of an NVIDIA GPU.  uuid: as ``nvidia-smi -L`` prints it, with ``GPU-``.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver
    was loaded; the counter moves some ten times a second).
    """

    source = "NVML, the whole GPU board"

    def __init__(self, load: Callable[[str], Any], uuid: str) -> None:
        try:
            self._library = load(NVML)
        except OSError as error:
            raise NotMeasurable(f"the driver's {NVML} can not be opened") from error
        self._handle = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._handle))

    def joules(self) -> float:
        """Joules since the driver was loaded."""
        counter = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(counter))
        return counter.value / 1e3

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise NotMeasurable(f"NVML answers {name} with error {code}")


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
        """Joules since this object was made; to be asked before a counter has gone round twice."""
        now = self._readings()
        for after, before, size in zip(now, self._last, self._ranges, strict=True):
            self._total += (after - before) % max(size, 1)
        self._last = now
        return self._total / 1e6

    def _readings(self) -> list[int]:
        return [_read_number(zone / "energy_uj") for zone in self._zones]


def _packages(powercap: Path) -> Sequence[Path]:
    """Top zones that are processor packages: parts of them (core, dram) and the whole platform
    would be counted twice."""
    zones = sorted(powercap.glob("intel-rapl:*"))
    packages = [zone for zone in zones if _read_text(zone / "name").startswith("package")]
    if not packages:
        raise NotMeasurable(f"no processor package counts its energy in {powercap}")
    return packages


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise NotMeasurable(f"{path} can not be read: {error.strerror}") from error


def _read_number(path: Path) -> int:
    text = _read_text(path)
    if not text.isdigit():
        raise NotMeasurable(f"{path} holds no number: {text[:20]!r}")
    return int(text)
