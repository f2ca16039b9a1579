"""Batches on their way to the device arrive as they left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scenes import LIVELY, make_records
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.device_draw import DevicePainter
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.nouns import Batch
from yolodet.detector.train.feed import on_device

CUDA = torch.device("cuda", 0)


def make_loader(folder: Path, painter_on: torch.device | None = None) -> Loader:
    records = make_records(folder, 9)
    cache = ImageCache(records, 64, mode="ram")
    data = DetectionDataset(records, 64, augment=LIVELY, cache=cache)
    painter = None
    if painter_on is not None:
        painter = DevicePainter(data, painter_on)
        painter.fill()
    return Loader(data, 2, shuffle=True, workers=0, painter=painter, repeats=4)


def equal(one: Batch, other: Batch) -> bool:
    tensors = ("images", "boxes", "labels", "batch_index")
    return one.indices == other.indices and all(
        torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()) for name in tensors
    )


def test_on_a_cpu_nothing_is_asked_for_ahead(tmp_path: Path) -> None:
    """There the loader would take the cores from the step."""
    asked: list[int] = []

    def counted() -> Iterator[Batch]:
        for batch in make_loader(tmp_path).epoch(0):
            asked.append(len(asked))
            yield batch

    expected = list(make_loader(tmp_path).epoch(0))
    for number, batch in enumerate(on_device(counted(), torch.device("cpu"))):
        assert len(asked) == number + 1 and equal(batch, expected[number])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("drawn_on", [None, CUDA], ids=["drawn on the CPU", "drawn on the card"])
def test_a_card_computes_on_whole_batches(tmp_path: Path, drawn_on: torch.device | None) -> None:
    """Also while it is busy, and after their memory has been asked for again."""
    busy = torch.randn(4096, 4096, device=CUDA)
    expected = [batch.to(CUDA) for batch in make_loader(tmp_path, drawn_on).epoch(0)]
    torch.cuda.synchronize()
    kept = []
    for batch in on_device(make_loader(tmp_path, drawn_on).epoch(0), CUDA):
        for _ in range(4):
            busy = (busy @ busy).tanh()
        kept.append(batch.images.clone())
        del batch
    for images, other in zip(kept, expected, strict=True):
        assert torch.equal(images, other.images)
