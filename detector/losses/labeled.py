"""Which classes the labels of an image name, where data sets with different classes are trained on.

A class without a label in an image is background only where its data set labels that class.  So a
class logit gets a gradient (a) in images of a data set that labels the class, everywhere, and (b)
in other images only at the points that are assigned to a labeled object: what is there is known to
be of another class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...datasets.nouns import Batch


@dataclass(frozen=True)
class LabeledClasses:
    """rows: [2,C] bool, the classes that the data set of the run labels, then those of the replayed
    one.  replayed: index of the first training image of the latter."""

    rows: Tensor
    replayed: int

    def of(self, batch: Batch) -> Tensor:
        """[B,C] bool: the classes that are labeled in each image.  Validation images, which have a
        letterbox, are those of the run's data set."""
        replayed = [
            int(index >= self.replayed and box is None)
            for index, box in zip(batch.indices, batch.letterboxes, strict=True)
        ]
        return self.rows.to(batch.images.device)[torch.tensor(replayed, device=batch.images.device)]
