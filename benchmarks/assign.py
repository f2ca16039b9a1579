"""Milliseconds per batch of the assigner, beside a dense one, against number of boxes and points.

    python benchmarks/assign.py [--batch 16 --sizes 320 640 --boxes 1 10 50 200 --rounds 5]

The dense reference computes a block of images x boxes x points, padded to the image with the most
boxes, as is usual.  Both must find the same positives, or the program stops.  Boxes and
predictions are made up: boxes of a twentieth to a half of the image, predictions around them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from pages import add_out, hardware, ratios, shown, spread, table, write_page
from torch import Tensor
from yolodet.detector.losses.assign import EPS, Assigner, Assignment, assign, candidate_pairs
from yolodet.detector.losses.iou import matched_ciou

STRIDES = (8, 16, 32)
CLASSES = 80


class Case(NamedTuple):
    """What is assigned: logits [B,A,C], boxes [B,A,4], points [A,2], strides [A],
    true boxes [M,4], labels [M], image of each box [M]."""

    logits: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor
    true_boxes: Tensor
    true_labels: Tensor
    batch_index: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 10, 50, 200], help="an image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    add_out(parser)
    options = parser.parse_args()
    rows, facts = [], []
    for size in options.sizes:
        for count in options.boxes:
            case = make_case(options.batch, size, count, options.device)
            check(case)
            ours, dense = measure(case, options.rounds)
            rows.append(
                [f"{size} px, {len(case.points)} points", count, shown(spread(ours), 2),
                 shown(spread(dense), 2), shown(ratios(dense, ours), 1)]
            )  # fmt: skip
            facts.append({"size": size, "boxes": count, "ours_ms": ours, "dense_ms": dense})
    header = ("input", "boxes per image", "ours, ms", "dense, ms", "dense / ours")
    title = f"# Assigning points to boxes, batch {options.batch}, {CLASSES} classes"
    said = "Median, least and most of interleaved rounds; ten points per box, as in training."
    write_page(options.out, "assign", "", hardware(options.device),
               [title, said, table(header, rows)], facts)  # fmt: skip


def make_case(batch: int, size: int, count: int, device: str) -> Case:
    """A batch with ``count`` boxes per image."""
    generator = torch.Generator().manual_seed(count)
    points, strides = [], []
    for stride in STRIDES:
        side = (torch.arange(size // stride) + 0.5) * stride
        y, x = torch.meshgrid(side, side, indexing="ij")
        points.append(torch.stack((x.flatten(), y.flatten()), 1))
        strides.append(torch.full((len(points[-1]),), float(stride)))
    where = torch.cat(points)
    sides = torch.empty(batch * count, 2).uniform_(size / 20, size / 2, generator=generator)
    corners = torch.rand(batch * count, 2, generator=generator) * (size - sides)
    reach = torch.empty(batch, len(where), 4).uniform_(8, size / 4, generator=generator)
    boxes = torch.cat((where - reach[..., :2], where + reach[..., 2:]), 2)
    case = Case(
        torch.randn(batch, len(where), CLASSES, generator=generator) - 2,
        boxes,
        where,
        torch.cat(strides),
        torch.cat((corners, corners + sides), 1),
        torch.randint(0, CLASSES, (batch * count,), generator=generator),
        torch.arange(batch).repeat_interleave(count),
    )
    return Case(*(tensor.to(device) for tensor in case))


def ours(case: Case) -> Assignment:
    """Assignment of one head, as in the loss."""
    pairs = candidate_pairs(case.points, case.strides, case.true_boxes)
    truth = (case.true_boxes, case.true_labels, case.batch_index)
    return assign([Assigner(topk=10)], [case.logits], [case.boxes], pairs, *truth)[0]


@torch.no_grad()
def dense(case: Case, topk: int = 10, alpha: float = 0.5, beta: float = 6.0) -> Tensor:
    """[B,A] the target of every point, 0 where it is no positive (arXiv 2108.07755, section 3.3),
    by blocks of all boxes and points.  Every image has equally many boxes here."""
    images, count = len(case.logits), len(case.true_boxes) // len(case.logits)
    truth = case.true_boxes.view(images, count, 1, 4)
    labels = case.true_labels.view(images, 1, count).expand(-1, len(case.points), -1)
    half = (truth[..., 2:] - truth[..., :2]).clamp(min=float(STRIDES[1])) / 2
    center = (truth[..., :2] + truth[..., 2:]) / 2
    inside = ((case.points - center).abs() < half).all(3)  # [B,m,A]
    score = case.logits.gather(2, labels).transpose(1, 2).sigmoid()
    boxes = case.boxes[:, None].expand(-1, count, -1, -1)
    overlap = matched_ciou(boxes.reshape(-1, 4), truth.expand_as(boxes).reshape(-1, 4))
    overlap = overlap.view(images, count, -1).clamp(min=0) * inside
    metric = score.pow(alpha) * overlap.pow(beta) * inside
    best = metric.topk(topk, dim=2).indices
    picked = torch.zeros_like(inside).scatter_(2, best, True) & inside
    owner = overlap.masked_fill(~picked, -1.0).argmax(1, keepdim=True)
    picked &= torch.zeros_like(inside).scatter_(1, owner, True)
    metric, overlap = metric * picked, overlap * picked
    target = metric / (metric.amax(2, keepdim=True) + EPS) * overlap.amax(2, keepdim=True)
    return target.amax(1)


def check(case: Case) -> None:
    """Raise SystemExit if the two differ."""
    found = ours(case).positives()
    target = torch.zeros(case.logits.shape[:2], device=case.logits.device)
    target[found.image, found.point] = found.target
    off = (target - dense(case)).abs().max().item()
    if off > 1e-3:
        raise SystemExit(f"the assigners differ by {off:.3g}: nothing to compare")


def measure(case: Case, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds per batch of ours and of the dense one, in interleaved rounds."""
    works: list[Callable[[], object]] = [lambda: ours(case), lambda: dense(case)]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-1, rounds):
        for work, mine in zip(works, times, strict=True):
            value = milliseconds(work, case.logits.device)
            if turn >= 0:  # the first round warms up
                mine.append(value)
    return times


def milliseconds(work: Callable[[], object], device: torch.device, least: float = 0.2) -> float:
    """Milliseconds of one call, averaged over calls that take ``least`` seconds."""
    calls, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < least:
        work()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return 1000 * spent / calls


if __name__ == "__main__":
    main()
