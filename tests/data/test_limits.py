"""What a process may use of a machine."""

from __future__ import annotations

from pathlib import Path

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
