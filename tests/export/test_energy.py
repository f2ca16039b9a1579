"""Energy counters: a made-up powercap folder, and the driver's library played by a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from yolodet.detector.examine.energy import NotMeasurable, NvmlMeter, RaplMeter, find_meter


def add_zone(powercap: Path, zone: str, name: str, microjoules: int, size: int = 1000) -> Path:
    folder = powercap / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{size}\n")
    return folder


def test_packages_are_added_and_their_parts_are_not(tmp_path) -> None:
    zones = [add_zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 100) for i in range(2)]
    parts = [
        add_zone(tmp_path, "intel-rapl:0:0", "core", 7),
        add_zone(tmp_path, "intel-rapl:2", "psys", 7),
    ]
    meter = RaplMeter(tmp_path)
    before = meter.joules()
    for zone, now in zip([*zones, *parts], (400, 150, 900, 900), strict=True):
        (zone / "energy_uj").write_text(str(now))
    assert meter.joules() - before == pytest.approx(350e-6)


def test_a_counter_that_goes_round_goes_on(tmp_path) -> None:
    zone = add_zone(tmp_path, "intel-rapl:0", "package-0", 900)
    meter = RaplMeter(tmp_path)
    readings = []
    for now in (950, 30, 40):
        (zone / "energy_uj").write_text(str(now))
        readings.append(meter.joules())
    assert readings == pytest.approx([50e-6, 130e-6, 140e-6])


def test_no_counter_is_a_reason_and_no_number(tmp_path) -> None:
    meter, why = find_meter(torch.device("cpu"), tmp_path)
    assert meter is None
    assert why.startswith("not measurable here: no processor package")
    zone = add_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (zone / "energy_uj").unlink()
    meter, why = find_meter(torch.device("cpu"), tmp_path)
    assert (meter, "energy_uj cannot be read" in why) == (None, True)
    (zone / "energy_uj").write_text("5")
    meter, why = find_meter(torch.device("cpu"), tmp_path)
    assert meter is not None and why == meter.source


class FakeNvml:
    """The functions of pynvml that are called.  fails: the one that raises."""

    class NVMLError(Exception):
        pass

    def __init__(self, fails: str = "") -> None:
        self.fails, self.millijoules, self.uuid = fails, 5000, ""

    def nvmlInit(self) -> None:
        self._answer("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.uuid = uuid
        return self._answer("nvmlDeviceGetHandleByUUID") or "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == "handle"
        self._answer("nvmlDeviceGetTotalEnergyConsumption")
        return self.millijoules

    def _answer(self, name: str) -> None:
        if name == self.fails:
            raise self.NVMLError("Not Supported")


def test_the_gpu_board_is_read_in_joules() -> None:
    nvml = FakeNvml()
    meter = NvmlMeter("GPU-12", nvml)
    before = meter.joules()
    nvml.millijoules += 2500
    assert meter.joules() - before == pytest.approx(2.5)
    assert nvml.uuid == "GPU-12"


@pytest.mark.parametrize("fails", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_board_that_does_not_count_says_so(fails: str) -> None:
    with pytest.raises(NotMeasurable, match="NVML: Not Supported"):
        NvmlMeter("GPU-12", FakeNvml(fails)).joules()
