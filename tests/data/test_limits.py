"""What a process may use of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenes import make_records
from yolodet.datasets.batches import loader as loader_module
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.files.limits import usable_cores


def test_cores_respect_the_quotas_of_control_groups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/box/inner\n")
    inner = tmp_path / "box" / "inner"
    inner.mkdir(parents=True)
    everything = usable_cores(tmp_path, own)
    assert everything >= 1
    (inner / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path, own) == everything
    (inner.parent / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path, own) == 1
    own.write_text("4:cpuacct,cpu:/old\n3:memory:/box\n")  # version 1
    old = tmp_path / "cpu" / "old"
    old.mkdir(parents=True)
    assert usable_cores(tmp_path, own) == everything
    (old / "cpu.cfs_quota_us").write_text("100000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, own) == 1
    assert usable_cores(tmp_path, tmp_path / "nowhere") == everything


def test_few_open_files_mean_fewer_loader_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ulimit -n 20`` ended in tracebacks of every process."""
    dataset = DetectionDataset(make_records(tmp_path, 4), 64, augment=None)
    monkeypatch.setattr(loader_module, "spare_files", lambda: 90)
    two = Loader(dataset, 1, shuffle=True, workers=9)
    assert two.workers == 2
    told = "workers=9: 2 are used, more would open too many files (ulimit -n)"
    assert two.fewer_workers == told
    monkeypatch.setattr(loader_module, "spare_files", lambda: 0)
    none = Loader(dataset, 1, shuffle=True, workers=9)
    assert none.workers == 0 and len(list(none.epoch(0))) == len(none)
