"""rect=True: batches of one shape, and the input that an image has alone."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from rows import each
from scenes import LIVELY, make_records
from yolodet.datasets.batches.by_shape import common_shape
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.images.image import fit
from yolodet.datasets.images.input_size import InputSize

COUNT = 11


@each(("workers", "world_size"), [(0, 1), (2, 1), (0, 2)])
def test_rectangles_share_a_batch_with_their_like(
    tmp_path: Path, workers: int, world_size: int
) -> None:
    records = make_records(tmp_path, COUNT)
    size = InputSize(64, 64, step=16)
    data = DetectionDataset(records, size, augment=LIVELY, seed=3)
    shapes = [size.shape(record.size) for record in records]
    assert len(set(shapes)) > 2 and all(64 in shape for shape in shapes)

    seen = []
    for rank in range(world_size):
        loader = Loader(
            data, 4, shuffle=True, seed=5, workers=workers, rank=rank, world_size=world_size
        )
        batches = list(loader.epoch(1))
        late = list(loader.epoch(1, start_step=2))
        assert all(torch.equal(a.images, b.images) for a, b in zip(batches[2:], late, strict=True))
        assert [b.indices for b in batches] != [b.indices for b in loader.epoch(2)]
        loader.close()
        for batch in batches:
            height, width = batch.images.shape[2:]
            assert height % 16 == width % 16 == 0
            for index in batch.indices:
                assert shapes[index][0] <= height and shapes[index][1] <= width
            if world_size == 1:
                assert (height, width) == common_shape([shapes[i] for i in batch.indices])
            for place, key in enumerate(batch.indices):
                drawn = data.draw((1, key, 0), np.empty((height, width, 3), np.uint8))
                assert np.array_equal(drawn.image, batch.images[place].permute(1, 2, 0).numpy())
        seen += chain.from_iterable(batch.indices for batch in batches)
    assert set(seen) == set(range(COUNT))

    plain = DetectionDataset(records, size, augment=None)
    loader = Loader(plain, 4, shuffle=False, workers=workers)
    batches = list(loader.epoch(0))
    loader.close()
    assert len(batches) == len(loader)
    assert sorted(chain.from_iterable(batch.indices for batch in batches)) == list(range(COUNT))
    for batch in batches:  # exactly the shape that the image has alone
        for place, index in enumerate(batch.indices):
            alone = plain[0, index, 0]
            assert shapes[index] == alone.image.shape[:2]
            assert np.array_equal(alone.image, batch.images[place].permute(1, 2, 0).numpy())
            assert alone.letterbox == batch.letterboxes[place]
            whole = fit(alone.original_size, 64)
            assert alone.letterbox is not None and alone.letterbox.gain == whole.gain
