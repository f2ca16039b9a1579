"""From Predictions to Detections: the same code for training, `det val`, `det predict` and exports.

The branch decides how.  The one-to-one branch is trained to find every object once, so its best
scores are the result (``top_detections``, tensor code of fixed shape that can be exported).  The
one-to-many branch finds an object many times and needs non-maximum suppression
(``nms_detections``).

Rules for both.  Arithmetic is float32 in every precision.  An anchor with a score that is nan, or
with a box that is not finite or has no area, is dropped before boxes compete.  A score counts if it
is at least ``conf``.  There is no time limit.  NMS compares in float64, shifted to positive
coordinates: class offsets then cost no precision, and negative coordinates do not reach into the
next class.

Letters: B images, A anchor points, C classes, D detections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from ...datasets.nouns import Letterbox
from ...files.errors import InputError
from ..models.head import decode_boxes
from ..models.predictions import ONE_TO_MANY, ONE_TO_ONE, Predictions
from ..options.detect import DetectOptions

MAX_CANDIDATES = 30_000
"""Most (anchor, class) pairs per image that enter NMS, best scores first."""

FEW = 20
"""Best detections that are looked at to say how near an image came to one."""


class BranchError(InputError):
    """The model does not have the head branch that is needed."""


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    boxes: [D,4] float32 xyxy pixels.  scores: [D] float32, descending.  labels: [D] int64.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: torch.Tensor | slice) -> Detections:
        """The detections at ``keep``: a mask [D], indices or a slice."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep])

    def single_class(self) -> Detections:
        """The same detections, all of class 0."""
        return Detections(self.boxes, self.scores, torch.zeros_like(self.labels))

    def above(self, conf: float) -> Detections:
        """Those with a score of at least ``conf``."""
        return self.select(self.scores >= conf)

    def to_original(self, letterbox: Letterbox, original_size: tuple[int, int]) -> Detections:
        """Boxes in the pixels of the original image of size (height, width), clipped to it.

        A box that lies wholly in the padding is dropped.
        """
        height, width = original_size
        pad = self.boxes.new_tensor((letterbox.pad_x, letterbox.pad_y) * 2)
        limit = self.boxes.new_tensor((width, height) * 2)
        boxes = ((self.boxes - pad) / letterbox.gain).clamp(min=0).minimum(limit)
        return Detections(boxes, self.scores, self.labels).select(has_area(boxes))

    def moved(self, x: float, y: float) -> Detections:
        """The same detections, shifted by x, y pixels."""
        shift = self.boxes.new_tensor((x, y, x, y))
        return Detections(self.boxes + shift, self.scores, self.labels)

    def cpu(self) -> Detections:
        return Detections(self.boxes.cpu(), self.scores.cpu(), self.labels.cpu())


def has_area(boxes: torch.Tensor) -> torch.Tensor:
    """Whether each box [...,4] is finite and has a width and a height: [...] bool."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1) & torch.isfinite(boxes).all(-1)


def uses_nms(nms: bool, available: Iterable[str]) -> bool:
    """Whether NMS is used: ``nms`` is set, or no one-to-one branch is ``available``."""
    return nms or ONE_TO_ONE not in available


def head_in_use(nms: bool, available: Iterable[str]) -> str:
    """The head and how it is read, for results and logs."""
    return "one-to-many + NMS" if uses_nms(nms, available) else "one-to-one (NMS-free)"


def branches_for(nms: bool, available: Iterable[str]) -> tuple[str, ...]:
    """The head branch to compute.

    nms=True reads the one-to-many branch, nms=False the one-to-one branch.  A family with only a
    one-to-many head uses NMS in both cases (see ``uses_nms``).  Raises BranchError if the branch is
    not ``available``.
    """
    names = tuple(available)
    branch = ONE_TO_MANY if uses_nms(nms, names) else ONE_TO_ONE
    if branch not in names:
        fix = "use nms=False" if ONE_TO_ONE in names else f"expected {ONE_TO_MANY} or {ONE_TO_ONE}"
        has = ", ".join(names) or "none"
        raise BranchError(f"nms={nms} reads the branch {branch}, the model has {has}: {fix}")
    return (branch,)


def postprocess(outputs: dict[str, Predictions], options: DetectOptions) -> list[Detections]:
    """Detections of each image of a batch, in input pixels, on the CPU.

    outputs: branch name -> Predictions, holding the branch that ``branches_for`` names.
    Raises BranchError as ``branches_for``.
    """
    (branch,) = branches_for(options.nms, outputs)
    found = outputs[branch]
    if options.classes is not None:
        found = _only_classes(found, options.classes)
    if options.class_conf is not None:
        found = _above(found, options.class_conf)
    if branch == ONE_TO_MANY:
        return nms_detections(
            found,
            conf=options.conf,
            iou=options.iou,
            max_det=options.max_det,
            agnostic=options.agnostic_nms,
        )
    return rows_to_detections(top_detections(found, options.max_det), options.conf)


def best_detections(outputs: dict[str, Predictions], options: DetectOptions) -> list[Detections]:
    """A few detections of each image with the highest scores, whatever ``options.conf`` and before
    NMS, which never removes the best one."""
    (branch,) = branches_for(options.nms, outputs)
    found = outputs[branch]
    if options.classes is not None:
        found = _only_classes(found, options.classes)
    return rows_to_detections(top_detections(found, FEW), 0.0)


def _only_classes(predictions: Predictions, classes: tuple[int, ...]) -> Predictions:
    """The scores of all other classes set to 0, which is never a detection.

    This happens before boxes compete: other classes neither use up ``max_det`` nor suppress a box.
    """
    wanted = torch.zeros(predictions.logits.shape[-1], dtype=torch.bool)
    wanted[list(classes)] = True
    unwanted = ~wanted.to(predictions.logits.device)
    return replace(predictions, logits=predictions.logits.masked_fill(unwanted, -torch.inf))


def _above(predictions: Predictions, class_conf: tuple[float, ...]) -> Predictions:
    """The scores below the threshold of their class set to 0, before boxes compete."""
    lowest = torch.tensor(class_conf, device=predictions.logits.device)
    weak = predictions.logits.float().sigmoid() < lowest
    return replace(predictions, logits=predictions.logits.masked_fill(weak, -torch.inf))


def rows_to_detections(rows: torch.Tensor, conf: float) -> list[Detections]:
    """Rows [B,max_det,6] of ``top_detections`` as Detections on the CPU, without padding."""
    rows = rows.float().cpu()  # one transfer for the whole batch
    keep = (rows[..., 4] >= conf) & (rows[..., 4] > 0)
    counts = keep.sum(1).tolist()  # rows are sorted: those kept come first
    return [_from_rows(image[:count]) for image, count in zip(rows, counts, strict=True)]


def _from_rows(rows: torch.Tensor) -> Detections:
    return Detections(rows[:, :4].contiguous(), rows[:, 4].contiguous(), rows[:, 5].long())


def top_detections(predictions: Predictions, max_det: int) -> torch.Tensor:
    """NMS-free detections [B,max_det,6] float32: x1, y1, x2, y2, score, class; best first.

    First the ``max_det`` anchors with the best scores, then the best ``max_det`` of their (anchor,
    class) pairs; padded with rows of score 0 if there are fewer.  Shapes depend on shapes only, so
    the function can be traced, compiled and exported.
    """
    boxes = decode_boxes(predictions)  # [B,A,4]
    logits = predictions.logits.float()  # [B,A,C]
    num_anchors, num_classes = logits.shape[1:]
    best = logits.amax(-1)  # [B,A]; nan if the score of any class is
    best = torch.where(has_area(boxes) & ~torch.isnan(best), best, -torch.inf)
    best, anchors = best.topk(min(max_det, num_anchors), dim=1)  # [B,K]

    boxes = rows_at(boxes, anchors)  # [B,K,4]
    scores = rows_at(logits, anchors).sigmoid()  # [B,K,C]
    usable = (best > -torch.inf)[..., None]  # [B,K,1]
    boxes, scores = torch.where(usable, boxes, 0.0), torch.where(usable, scores, 0.0)

    num_pairs = min(max_det, scores.shape[1] * num_classes)
    top, pairs = scores.flatten(1).topk(num_pairs, dim=1)  # [B,P]
    rows = torch.div(pairs, num_classes, rounding_mode="floor")
    boxes = rows_at(boxes, rows)
    labels = (pairs - rows * num_classes).float()
    found = torch.cat((boxes, top[..., None], labels[..., None]), -1)  # [B,P,6]
    return torch.nn.functional.pad(found, (0, 0, 0, max_det - num_pairs))


def rows_at(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of each image: table [B,N,C] and index [B,K] -> [B,K,C].

    It is one lookup of whole rows: in exported files, ``gather`` needs an index per number.
    """
    batch, rows, width = table.shape
    first = torch.arange(batch, device=index.device)[:, None] * rows
    found = table.reshape(-1, width).index_select(0, (index + first).flatten())
    return found.reshape(batch, -1, width)


def nms_detections(
    predictions: Predictions, *, conf: float, iou: float, max_det: int, agnostic: bool
) -> list[Detections]:
    """Detections of each image after non-maximum suppression, in input pixels, on the CPU.

    Every (anchor, class) pair with a score of at least ``conf`` is a candidate, so one anchor may
    give several classes.  A box is suppressed by a better one of its class (with ``agnostic``: of
    any class) that overlaps it by more than ``iou``.  At most MAX_CANDIDATES candidates and
    ``max_det`` detections per image.
    """
    boxes = decode_boxes(predictions)  # [B,A,4]
    scores = predictions.logits.float().sigmoid()  # [B,A,C]
    usable = has_area(boxes) & ~torch.isnan(scores).any(-1)
    candidates = (scores >= conf) & (scores > 0) & usable[..., None]
    found = []
    for image_boxes, image_scores, mask in zip(boxes, scores, candidates, strict=True):
        anchors, labels = mask.nonzero(as_tuple=True)
        pairs = Detections(image_boxes[anchors], image_scores[anchors, labels], labels)
        found.append(_suppress(_best(pairs, MAX_CANDIDATES), iou, agnostic, max_det).cpu())
    return found


def _best(detections: Detections, limit: int) -> Detections:
    """The ``limit`` best scored, best first; equal scores keep their order."""
    return detections.select(detections.scores.argsort(descending=True, stable=True)[:limit])


def _suppress(detections: Detections, iou: float, agnostic: bool, max_det: int) -> Detections:
    """Greedy NMS on candidates sorted by score."""
    if len(detections) == 0:
        return detections
    # importing torchvision takes more than a second, and an NMS-free head does not need it
    from torchvision.ops import batched_nms, nms

    on_mps = detections.boxes.device.type == "mps"  # no float64 there
    work = detections.cpu() if on_mps else detections
    boxes, scores = work.boxes.double(), work.scores.double()
    boxes = boxes - boxes.min()
    keep = nms(boxes, scores, iou) if agnostic else batched_nms(boxes, scores, work.labels, iou)
    return _best(work.select(keep), max_det)
