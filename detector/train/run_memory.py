"""The memory of a run: what it should take, shown before the first step, and the most it has taken.

On a CPU it is that of the process, which is there before anything is trained; on CUDA that of
torch's allocator.  With several ranks each rank takes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ...files.counted import counted
from ...files.json_text import read_note
from ..precision.precision import Precision
from ..run.memory import PeakMemory
from .assemble import Run
from .memory import cache_bytes, largest_size, needs_of

GIB = 2**30
MEMORY = "memory.json"
"""In the run folder, with ``memory=``: the budget, and what was done to meet it."""
LEAST = GIB // 200
"""Parts of less are left out of the line."""
BESIDE = 60 << 20
"""Bytes that a run on a CPU takes beside its steps: the validation, checkpoints, and gaps between
blocks, which grow over the first epochs."""


class RunMemory:
    """Made before the first pass through the model: what is in use then is the idle process."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.peak = PeakMemory(run.device)
        self.peak.begin()
        self.parts: dict[str, int] = {}
        self.note: dict[str, Any] = {}
        """What ``memory=`` found by trial steps: budget, expected, steps (memory_budget.py)."""

    def estimate(self, precision: Precision) -> None:
        """Fill ``parts``: what the run should take in ``precision``, in bytes by name."""
        run = self.run
        needs = needs_of(run.model, largest_size(run), precision, run.optimizer)
        images = run.config.images_per_pass // run.ranks.size
        weights, average = size_of(run.model), size_of(run.ema.average) if run.ema else 0
        self.parts = {
            "process": max(self.peak.base - weights - average, 0),
            "weights": weights,
            "average (EMA)": average,
            "gradients": needs.gradients,
            "optimizer state": needs.optimizer,
            "copy to go back to": weights + average + needs.optimizer,
            "kernels": needs.kernels,
            "validation and files": BESIDE if run.device.type == "cpu" else 0,
            "images": loader_bytes(run),
            f"activations of {counted(images, 'image')}": images * needs.image,
        }

    def read(self, folder: Path) -> None:
        """What ``memory=`` found when the run in ``folder`` began, if it had a budget."""
        note = read_note(folder / MEMORY)
        whole = all(isinstance(note.get(name), int) for name in ("budget", "expected"))
        names = ("budget", "expected", "steps")
        self.note = {name: note.get(name) for name in names} if whole else {}

    @property
    def expected(self) -> int:
        """Bytes in all: measured by trial steps, or the sum of ``parts``."""
        return self.note.get("expected") or sum(self.parts.values())

    def line(self) -> str:
        """``about 1.21 GiB: process 0.45, weights 0.02, ...``; parts below 0.005 GiB left out."""
        shown = [f"{name} {size / GIB:.2f}" for name, size in self.parts.items() if size > LEAST]
        each = " per rank" if self.run.ranks.size > 1 else ""
        if self.note:
            budget = self.note["budget"] / GIB
            return f"about {self.expected / GIB:.2f} of {budget:.2f} GiB{each}, by trial steps"
        return f"about {self.expected / GIB:.2f} GiB{each}: {', '.join(shown)}"

    def begin(self) -> None:
        """The first step comes now: forget what the check of the precision has taken."""
        self.peak.reset()

    def facts(self) -> dict[str, Any]:
        """For results.json, in bytes: ``expected`` and ``peak`` with the idle process, the parts of
        the estimate, and ``error``, that of ``expected`` above the idle process.  None where a peak
        cannot be measured."""
        idle, expected = self.peak.base, self.expected
        peak = idle + self.peak.bytes() if self.peak.measurable(self.run.device) else None
        error = (expected - idle) / (peak - idle) - 1 if peak and peak > idle else None
        facts = {"idle": idle, "expected": expected, "peak": peak, "error": error}
        return facts | {"parts": dict(self.parts)} | self.note


def size_of(model: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def beside_steps(run: Run) -> int:
    """What a run takes beside its steps: images of the loaders, validation and files."""
    return loader_bytes(run) + (BESIDE if run.device.type == "cpu" else 0)


def loader_bytes(run: Run) -> int:
    """Decoded images that will be kept, and two batches: one in use, one ahead."""
    height, width = largest_size(run)
    batch = run.config.batch_size // run.ranks.size * height * width * 3
    return 2 * batch + (cache_bytes(run) if run.device.type == "cpu" else 0)
