"""How long the models of the zoo take per image here (``det weights list bench=True``)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ...weights.noted import note, read_notes
from ...weights.zoo import ZooEntry
from ..models.build import build
from ..run.device import describe_device, pick_device, synchronize

RUNS = 5
WARM_UP = 2
CLASSES = 80


def milliseconds(
    entries: Iterable[ZooEntry], on_progress: Callable[[int, int], None]
) -> tuple[str, dict[str, float]]:
    """The device, and the milliseconds per image of each model on it: name -> ms.

    One image of the weights' size, float32, without reading images and NMS; the median of RUNS.
    Random weights take as long as trained ones.  What was measured before on an equal device and
    torch is not measured again.
    """
    device = pick_device(None)
    key = f"{describe_device(device)}, torch {torch.__version__}"
    notes, found, waiting = read_notes(), {}, list(entries)
    for done, entry in enumerate(waiting):
        kept = _times(notes.get(entry.name, {}))
        if key not in kept:
            kept[key] = round(_measure(entry, device), 2)
            note(entry.name, "ms", kept)
        found[entry.name] = kept[key]
        on_progress(done + 1, len(waiting))
    return key, found


def _times(noted: dict[str, Any]) -> dict[str, float]:
    """Device -> milliseconds, as far as they are numbers."""
    times = noted.get("ms")
    items = times.items() if isinstance(times, dict) else ()
    return {device: value for device, value in items if isinstance(value, float)}


@torch.inference_mode()
def _measure(entry: ZooEntry, device: torch.device) -> float:
    model = build(entry.name, CLASSES)
    model.fuse(model.branches[:1]).to(device).to(memory_format=torch.channels_last)
    images = torch.rand(1, 3, entry.image_size, entry.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        model(images)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:]) * 1000
