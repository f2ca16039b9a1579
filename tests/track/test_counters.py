"""The counters of docs/tracking.md run as they stand there."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from exports import make_image, make_run
from tracks import needs_trackers

PAGE = Path(__file__).parents[2] / "docs" / "tracking.md"
MARK = "<!-- tests/track/test_counters.py runs this -->\n```python\n"


@needs_trackers
def test_the_example_with_counters_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, monkeypatch)
    video = cv2.VideoWriter("street.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 480))
    for _ in range(4):
        video.write(make_image((480, 640), 20))
    video.release()
    code = PAGE.read_text().partition(MARK)[2].partition("```")[0]
    names: dict = {}
    exec(compile(code, "tracking.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert names["found"].tracker_id.min() >= 1
