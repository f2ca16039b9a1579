"""The folders of the studio: as they are on disk, and listed again only where they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from yolodet.detector.studio import folders
from yolodet.detector.studio.folders import DEPTH, Folders
from yolodet.detector.studio.place import Place


def settled(root: Path) -> None:
    """Every folder was changed long ago."""
    for here, _, _ in os.walk(root):
        os.utime(here, (1e9, 1e9))


def make_tree(root: Path) -> None:
    for name in ("b/images/a.jpg", "b/images/b.jpg", "b/images/c.PNG", "b/data.yaml", "b/x.yaml",
                 "a/runs/1/args.yaml", "a/runs/1/weights/best.safetensors", ".git/config.yaml",
                 "/".join("123456789") + "/deep.yaml", "notes.txt"):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (root / "a/link").symlink_to(root / "b")
    (root / "a/circle").symlink_to(root / "a/circle")


def told(names: list[str]) -> set[str]:
    """Names of telling files, and the suffixes of the others."""
    suffixes = [os.path.splitext(name)[1] for name in names]
    pairs = zip(names, suffixes, strict=True)
    return {name if suffix in folders.TELLING else suffix for name, suffix in pairs}


def test_the_folders_are_those_of_the_disk(tmp_path: Path) -> None:
    make_tree(tmp_path)
    wanted = []
    for here, inner, names in os.walk(tmp_path):
        inner[:] = sorted(name for name in inner if name[0] != ".")
        if len(Path(here).relative_to(tmp_path).parts) >= DEPTH:
            inner.clear()
        wanted.append((Path(here), list(inner), told(names)))
    walked = list(Folders(tmp_path).walk())
    assert [(here, inner, told(list(names))) for here, inner, names in walked] == wanted
    images = {here: names for here, _, names in walked}[tmp_path / "b/images"]
    assert len(images) == 2  # one of each suffix


def test_only_what_has_changed_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path)
    settled(tmp_path)
    place, listed = Place(tmp_path), []
    scandir = os.scandir

    def counted(path: str) -> os.ScandirIterator[str]:
        listed.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", counted)
    assert place.runs() == ["a/runs/1"] and len(listed) > 8
    listed.clear()
    assert place.runs() == ["a/runs/1"] and place.checkpoints() and not listed
    (tmp_path / "a/runs/2").mkdir()
    (tmp_path / "a/runs/2/args.yaml").write_text("")
    assert place.runs() == ["a/runs/2", "a/runs/1"]
    assert listed == ["a/runs", "a/runs/2"]


def test_a_second_change_at_the_same_time_is_seen(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "run").mkdir()
    now = tmp_path.stat().st_mtime_ns
    assert place.runs() == []
    (tmp_path / "run/args.yaml").write_text("")
    os.utime(tmp_path / "run", ns=(now, now))
    os.utime(tmp_path, ns=(now, now))
    assert place.runs() == ["run"]
