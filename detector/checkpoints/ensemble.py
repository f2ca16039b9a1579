"""Several models as one (``model=a,b``): their detections are fused, classes matched by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...datasets.formats.record import Record
from ..evaluate.evaluator import Detected
from ..evaluate.fusion import fused_detections
from ..evaluate.metrics import DetectionCollector
from ..export.exported import ExportedDetector
from ..models.detector import Detector
from ..models.detector_like import DetectorLike
from ..models.predictions import Predictions
from ..options.detect import DetectOptions
from ..options.errors import UsageError, did_you_mean
from .load import Loaded


class Renumbered(nn.Module):
    """A detector with its classes in another order.  order: its class for each class here."""

    def __init__(self, model: Detector | ExportedDetector, order: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.order = list(order)
        self.letterbox, self.max_stride = model.letterbox, model.max_stride
        self.num_classes = len(self.order)

    @property
    def branches(self) -> tuple[str, ...]:
        return self.model.branches

    def forward(
        self, images: Tensor, branches: tuple[str, ...] | None = None
    ) -> dict[str, Predictions]:
        """images: [B,3,H,W] RGB, uint8 or float in 0..1."""
        return {
            name: Predictions(
                found.logits[..., self.order], found.distances, found.points, found.strides
            )
            for name, found in self.model(images, branches=branches).items()
        }


def named_as(used: Loaded, first: Loaded) -> DetectorLike:
    """The model of ``used`` with the class numbers of ``first``.

    Raises UsageError where one of the two does not know a class of the other.
    """
    names, wanted = used.meta.class_names, first.meta.class_names
    for one, other in ((used, first), (first, used)):
        for name in other.meta.class_names:
            if name not in (known := one.meta.class_names):
                hint = did_you_mean(name, known) or "models that are fused know the same classes"
                raise UsageError(
                    f"{one.path} does not know the class {name!r} of {other.path}: {hint}"
                )
    if names == wanted:
        return used.model
    return Renumbered(used.model, [names.index(name) for name in wanted])


def fused(parts: Sequence[Detected], truth: Sequence[Record], detect: DetectOptions) -> Detected:
    """What several models detected in whole images as one; pictures are left out, because each
    model has an input of its own.  An image that one of them could not read counts neither way."""
    collector = DetectionCollector(parts[0].collector.class_names)
    found = [part.collector.detections() for part in parts]
    indices = [index for index in parts[0].indices if all(index in each for each in found)]
    for index in indices:
        voters = [each[index] for each in found]
        collector.add(index, truth[index], fused_detections(voters, detect))
    paths = [truth[index].path for index in indices]
    speed = {name: sum(part.speed[name] for part in parts) for name in parts[0].speed}
    return Detected(collector, indices, paths, {}, speed)
