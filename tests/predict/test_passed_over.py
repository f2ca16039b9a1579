"""Files among the sources that are no image and no video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from yolodet.detector.predict.sources import open_source


def test_what_is_no_image_among_images_is_passed_over_and_named(tmp_path: Path, monkeypatch):
    here = tmp_path
    monkeypatch.chdir(here)
    (here / "pat").mkdir()
    for name in ("a.jpg", "b.jpg"):
        assert cv2.imwrite(str(here / "pat" / name), np.zeros((8, 8, 3), np.uint8))
    for name in ("c.jfif", "d.DNG", "e.jpe", "notes.json"):
        (here / "pat" / name).write_bytes(b"x")
    (here / "pat/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (here / "pat/sub").mkdir()
    words = ",".join(str(path) for path in sorted((here / "pat").iterdir()))  # a shell's pat/*
    for source in ("pat", "pat/*", words):
        told: list[str] = []
        frames = list(open_source(source, on_warning=told.append))
        assert [Path(frame.path).name for frame in frames] == ["a.jpg", "b.jpg"]
        assert len(told) == 1
        assert all(name in told[0] for name in ("c.jfif", "d.DNG", "e.jpe", "notes.json"))
