"""Names in plots can be read: none stands on another one or on a point."""

from __future__ import annotations

from itertools import combinations

from yolodet.detector.evaluate.figure import name_points, new_figure

NAMES = ["fp32", "fp16", "int8", "qat", "pruned", "pruned qat (deployed)"]


def test_names_of_points_that_lie_close_do_not_overlap() -> None:
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    points = [(10.0, 0.5), (9.9, 0.5), (5.0, 0.49), (5.0, 0.49), (4.9, 0.491), (1.0, 0.3)]
    axes.scatter(*zip(*points, strict=True))
    axes.set_xlim(0, 12)
    axes.set_ylim(0.2, 0.6)
    name_points(axes, NAMES, points)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == NAMES
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    places = axes.transData.transform(points)
    assert not any(box.contains(*place) for box in boxes for place in places)
    at = [((b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2) for b in boxes]
    far = [abs(x - px) + abs(y - py) for (x, y), (px, py) in zip(at, places, strict=True)]
    assert max(far) < 200  # in pixels of 900 x 600: each name is near its point
