"""A device whose memory follows a formula, in place of the measured one of ``memory=``."""

from __future__ import annotations

from typing import Any

import pytest
from yolodet.detector.models.checkpointing import checkpointed_stages
from yolodet.detector.options.memory_size import memory_bytes
from yolodet.detector.train import memory_budget
from yolodet.detector.train.bf16_state import is_kept_in_bf16
from yolodet.detector.train.trial_step import Cost, TrialStep

MiB = 1 << 20


class Pretended(TrialStep):
    """100 MiB per image of a pass, a tenth less for each stage that is computed again, 0.6 of that
    in half precision; and 40 MiB of state, 20 in bf16.  Each further rank takes 50 MiB more."""

    def cost(self, images: int) -> Cost:
        images = min(images, self.step.micro_batch or images)
        share = 1.0 - 0.1 * len(checkpointed_stages(self.run.model))
        share *= 1.0 if self.step.precision.name == "fp32" else 0.6
        state = 20 if is_kept_in_bf16(self.run.optimizer) else 40
        whole = 100 * images * share + state + 50 * self.run.ranks.rank
        return Cost(round(whole * MiB), 8.0 / images, images)


def pretend_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the budget be met on such a device, which is empty before the run."""
    monkeypatch.setattr(memory_budget, "TrialStep", Pretended)
    monkeypatch.setattr(memory_budget, "beside_steps", lambda run: 0)
    monkeypatch.setattr(memory_budget, "GAPS", 1.0)
    monkeypatch.setattr(memory_budget, "_budget", lambda run, word, log: (0, memory_bytes(word)))

    def savings(model: Any, *_: Any) -> dict[str, int]:
        done = checkpointed_stages(model)
        return {name: 10 * MiB for name in model.stages if name not in done}

    monkeypatch.setattr(memory_budget, "stage_savings", savings)
