"""Rarer sources: the screen, images of phones and of science, folders in folders."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from exports import make_image
from yolodet.datasets.images import image as images
from yolodet.detector.predict import screen
from yolodet.detector.predict.sources import SourceError, open_source


def frames_of(source: Any, **words: Any) -> list[np.ndarray]:
    return [frame.image for frame in open_source(source, **words)]


@pytest.mark.parametrize("suffix", [".avif", ".jp2"])
def test_avif_and_jpeg_2000_are_images(tmp_path: Path, suffix: str) -> None:
    picture = make_image((48, 64), 1)
    try:
        done = cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    except cv2.error:
        done = False
    if not done:
        pytest.skip(f"this OpenCV cannot write {suffix}")
    (found,) = frames_of(tmp_path)
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - picture[..., ::-1]).mean() < 12  # swapped colors: 60


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2"])
def test_16_bits_become_8(tmp_path: Path, suffix: str) -> None:
    picture = make_image((48, 64), 1)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), picture.astype(np.uint16) * 257)
    (frame,) = open_source(tmp_path / f"a{suffix}", pixels="raw")
    assert np.abs(frame.image.astype(int) - picture[..., ::-1]).max() <= 1


def test_heic_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"needs the package pillow-heif.*yolodet\[heic\]"):
        frames_of(tmp_path / "a.heic")


def test_heic_is_read_and_damage_is_one_line(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    picture = make_image((64, 96), 1)
    heif.from_bytes("RGB", (96, 64), picture[..., ::-1].tobytes()).save(tmp_path / "a.heic")
    (found,) = frames_of(tmp_path)
    assert found.shape == (64, 96, 3)
    assert np.abs(found.astype(int) - picture[..., ::-1]).mean() < 12
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(SourceError, match=r"b\.heic: cannot be decoded"):
        frames_of(tmp_path / "b.heic")


def test_folders_in_folders_are_searched_when_asked(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png", "in/deep/c.png", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    names = [f.path.name for f in open_source(tmp_path, recursive=True)]
    assert names == ["a.png", "b.png", "c.png"]
    assert [f.path.name for f in open_source(tmp_path)] == ["a.png"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(SourceError, match="recursive=True"):
        open_source(tmp_path)


class Screens:
    """What mss gives: screen 0 is all of them."""

    monitors = (
        {"left": 0, "top": 0, "width": 40, "height": 20},
        {"left": 10, "top": 0, "width": 30, "height": 20},
    )
    closed = 0

    def grab(self, area: dict[str, int]) -> np.ndarray:
        whole = np.zeros((20, 40, 4), np.uint8)
        whole[..., 0] = np.arange(40)  # blue is the column
        left, top = area["left"], area["top"]
        return whole[top : top + area["height"], left : left + area["width"]]

    def close(self) -> None:
        Screens.closed += 1


@pytest.fixture
def mss(monkeypatch: pytest.MonkeyPatch) -> None:
    package, errors = ModuleType("mss"), ModuleType("mss.exception")
    package.mss = Screens
    errors.ScreenShotError = type("ScreenShotError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "mss", package)
    monkeypatch.setitem(sys.modules, "mss.exception", errors)
    monkeypatch.setattr(screen, "find_spec", lambda name: True)


@pytest.mark.parametrize(
    ("source", "shape", "first"),
    [("screen", (20, 40), 0), ("screen 1", (20, 30), 10), ("screen 1 5 2 8 6", (6, 8), 15)],
)
def test_the_screen_is_a_source(mss: None, source: str, shape, first: int) -> None:
    closed = Screens.closed
    stream = iter(open_source(source, vid_stride=2))
    one, two = next(stream), next(stream)
    assert one.image.shape[:2] == shape and one.image[0, 0].tolist() == [0, 0, first]
    assert (one.frame, two.frame) == (0, 2) and one.path.name == "screen"
    stream.close()
    assert Screens.closed == closed + 1
    with pytest.raises(SourceError, match="there are 1 screens"):
        next(iter(open_source("screen 7")))


def test_the_screen_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"needs the package mss.*yolodet\[screen\]"):
        open_source("screen")
