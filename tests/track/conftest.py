"""Small drawn videos with known tracks."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn videos of 60 frames with six objects."""
    from yolodet.datasets.drawn.videos import write_videos

    folder = tmp_path_factory.mktemp("drawn") / "videos"
    return write_videos(folder, count=2, frames=60, size=160, objects=6)
