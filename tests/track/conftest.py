"""Small drawn videos with known tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from yolodet.detector.track.mot import find_sequences, read_rows


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn videos of 60 frames with six objects."""
    from yolodet.datasets.drawn.videos import write_videos

    folder = tmp_path_factory.mktemp("drawn") / "videos"
    return write_videos(folder, count=2, frames=60, size=160, objects=6)


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of 40 frames, with det/det.txt: true boxes that are moved, missed and scored at random,
    and false ones."""
    from yolodet.datasets.drawn.videos import write_videos

    folder = tmp_path_factory.mktemp("drawn") / "videos"
    rng = np.random.default_rng(0)
    write_videos(folder, count=1, frames=40, size=160, objects=6)
    for sequence in find_sequences(str(folder)):
        rows = read_rows(sequence.truth)
        rows = rows[(rows[:, 6] != 0) & (rng.random(len(rows)) > 0.1)]
        false = rows[rng.random(len(rows)) < 0.05]
        false[:, 2:4] = rng.uniform(0, 100, (len(false), 2))
        rows = np.concatenate((rows, false))
        rows[:, 2:6] += rng.normal(0, 1, (len(rows), 4))
        rows[:, 6] = rng.uniform(0.1, 1, len(rows))
        (sequence.folder / "det").mkdir()
        np.savetxt(sequence.folder / "det/det.txt", rows, "%.9g", ",")
    return folder
