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
    """The three functions of the driver's library that are called."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.millijoules, self.uuid = code, 5000, b""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle) -> int:
        self.uuid = uuid
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, counter) -> int:
        counter._obj.value = self.millijoules
        return self.code


def test_the_gpu_board_is_read_in_joules() -> None:
    library = FakeNvml()
    meter = NvmlMeter(lambda name: library, "GPU-12")
    before = meter.joules()
    library.millijoules += 2500
    assert meter.joules() - before == pytest.approx(2.5)
    assert library.uuid == b"GPU-12"


def test_a_board_that_does_not_count_says_so() -> None:
    with pytest.raises(NotMeasurable, match="error 3"):
        NvmlMeter(lambda name: FakeNvml(code=3), "GPU-12").joules()

    def missing(name: str) -> None:
        raise OSError(name)

    with pytest.raises(NotMeasurable, match=r"libnvidia-ml.so.1 cannot be opened"):
        NvmlMeter(missing, "GPU-12")
