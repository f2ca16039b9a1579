"""Images drawn with torch against those drawn with OpenCV: equal boxes, nearly equal pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rows import each
from scenes import LIVELY, QUIET, make_records, write_record
from tiny import train, train_config, use_tiny_detector, write_tiny_data
from yolodet.datasets.augment.transforms import color_weights, hue_rotation
from yolodet.datasets.augment.transforms import shift_color as shift_with_opencv
from yolodet.datasets.batches import device_draw as device_augment
from yolodet.datasets.batches import device_plan as planned
from yolodet.datasets.batches.dataset import Augment, DetectionDataset, Key
from yolodet.datasets.batches.device_draw import DevicePainter, choose_device, shift_color
from yolodet.datasets.batches.device_plan import Layout, plan_batch
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.nouns import Batch
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run.log import Log
from yolodet.detector.train import assemble as assembling
from yolodet.detector.train.check import check_train

SIDE = 128
CPU = torch.device("cpu")
COUNT = 7
STRAIGHT = replace(LIVELY, degrees=0.0, shear=0.0, mosaic=0.7)
KINDS = {
    "nothing": QUIET,
    "flips": replace(QUIET, flipud=0.5, fliplr=0.5),
    "defaults": replace(STRAIGHT, mosaic=1.0, mixup=0.0, flipud=0.0),
    "straight": STRAIGHT,
    "turned": replace(LIVELY, mosaic=0.7),
    "far away": replace(STRAIGHT, scale=0.95),
    "far away and turned": replace(LIVELY, scale=0.95),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def make_data(folder: Path, augment: Augment, side: int = SIDE) -> DetectionDataset:
    records = make_records(folder, COUNT)
    cache = ImageCache(records, side, mode="ram")
    return DetectionDataset(records, side, augment=augment, seed=3, cache=cache)


def painter_of(data: DetectionDataset, device: torch.device = CPU) -> DevicePainter:
    painter = DevicePainter(data, device)
    painter.fill()
    return painter


def drawn(data: DetectionDataset, keys: Sequence[Key], device: torch.device = CPU) -> Batch:
    painter = painter_of(data, device)
    return painter.draw(plan_batch(data, painter.layout, keys))


def keys_of(epochs: int) -> list[Key]:
    return [(epoch, index, epoch % 2) for epoch in range(epochs) for index in range(COUNT)]


def pixels(batch: Batch) -> np.ndarray:
    """[B,H,W,3] whole numbers."""
    return batch.images.permute(0, 2, 3, 1).cpu().numpy().astype(int)


def edges(data: DetectionDataset, key: Key) -> np.ndarray:
    """[H,W] bool: within three pixels of an edge of a tile."""
    inside = np.zeros((SIDE, SIDE), np.uint8)
    drawing = data.drawing(key)
    near = np.zeros((SIDE, SIDE), bool)
    for tile in [*drawing.tiles, *drawing.mixed]:
        x0, y0, x1, y1 = tile.crop
        corners = np.array(((x0, y0, 1), (x1, y0, 1), (x1, y1, 1), (x0, y1, 1))) @ tile.matrix.T
        inside[:] = 0
        cv2.fillConvexPoly(inside, np.rint(corners).astype(np.int32), 1)
        around = np.ones((7, 7), np.uint8)
        near |= cv2.dilate(inside, around) != cv2.erode(inside, around, borderValue=1)
    return near


@each("kind", KINDS)
def test_boxes_are_equal_and_images_are_close(kind: str, folder: Path) -> None:
    data = make_data(folder, KINDS[kind])
    keys = keys_of(6)
    batch, samples = drawn(data, keys), [data[key] for key in keys]
    assert np.array_equal(batch.boxes, np.concatenate([s.boxes for s in samples]))
    assert np.array_equal(batch.labels, np.concatenate([s.labels for s in samples]))
    counts = [len(sample.boxes) for sample in samples]
    assert np.array_equal(batch.batch_index, np.repeat(np.arange(len(keys)), counts))
    assert batch.indices == [index for _, index, _ in keys]
    assert batch.paths == [sample.path for sample in samples]
    assert batch.original_sizes == [sample.original_size for sample in samples]
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    found, expected = pixels(batch), np.stack([s.image for s in samples]).astype(int)
    errors = np.abs(found - expected)
    soft = "turned" in kind  # OpenCV may draw the edges of turned tiles softly
    inner = [~edges(data, key) if soft else np.ones((SIDE, SIDE), bool) for key in keys]
    assert np.mean([part.mean() for part in inner]) > 0.7
    inside = np.concatenate([e[i] for e, i in zip(errors, inner, strict=True)])
    assert inside.mean() < 0.5 and np.percentile(inside, 99) <= 3
    assert errors.mean() < (1.5 if soft else 0.5)
    assert abs(found.mean() - expected.mean()) < 0.3 and abs(found.std() - expected.std()) < 0.3


@pytest.mark.parametrize("kind", ["nothing", "flips", "straight"])
def test_geometry_of_straight_tiles_is_exact_to_the_rounding(kind: str, folder: Path) -> None:
    """No pixel is off by more than a level where color and mixup do not enlarge what is off."""
    data = make_data(folder, replace(KINDS[kind], hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, mixup=0.0))
    keys = keys_of(6)
    expected = np.stack([data[key].image for key in keys]).astype(int)
    assert np.abs(pixels(drawn(data, keys)) - expected).max() <= 1


def all_colors(steps: int = 52) -> np.ndarray:
    """[1,steps**3,3] uint8."""
    levels = np.linspace(0, 255, steps).round()
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3).astype(np.uint8)


@each(
    "color",
    [(0.0, 1.0, 1.0), (0.015, 1.7, 0.6), (-0.015, 0.3, 1.4), (0.5, 0.0, 1.0), (-0.3, 1.0, 2.0)],
)
def test_colors_are_equal_within_rounding(color: tuple[float, float, float]) -> None:
    image = all_colors()
    numbers = (*hue_rotation(color[0]).flat, *color_weights(*color[1:]))
    found = shift_color(torch.from_numpy(image)[None], torch.tensor([numbers]))
    found = found[0].numpy().astype(int)
    shift_with_opencv(image, color)
    errors = np.abs(found - image)
    assert errors.max() <= 1 and errors.mean() < 5e-3


def test_mixup_is_the_weighted_mean_on_the_images_it_is_meant_for(tmp_path: Path) -> None:
    levels = (0, 200, 90)
    records = [
        write_record(tmp_path / f"{k}.png", np.full((SIDE, SIDE, 3), level, np.uint8))
        for k, level in enumerate(levels)
    ]
    data = DetectionDataset(records, SIDE, augment=replace(QUIET, mixup=0.5))
    keys = [(epoch, index, 0) for epoch in range(20) for index in range(3)]
    plans = [data.plan(key) for key in keys]
    assert 10 < sum(bool(plan.mixed) for plan in plans) < 50
    for image, plan in zip(pixels(drawn(data, keys)), plans, strict=True):
        level = levels[plan.placements[0].index] * plan.share
        if plan.mixed:
            level += levels[plan.mixed[0].index] * (1.0 - plan.share)
        assert np.abs(image - level).max() <= 0.501


def test_an_image_is_the_same_whatever_is_drawn_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number at once, in any batch."""
    data = make_data(folder, KINDS["far away and turned"])
    keys = keys_of(4)
    whole = drawn(data, keys)
    alone = torch.cat([drawn(data, [key]).images for key in keys])
    assert torch.equal(whole.images, alone)
    monkeypatch.setattr(planned, "PIXELS_AT_ONCE", 3 * SIDE**2)
    assert Layout(data.cache).at_once == 3
    assert torch.equal(whole.images, drawn(data, keys).images)


def test_closing_epochs_have_neither_mosaic_nor_mixup(folder: Path) -> None:
    data = make_data(folder, replace(KINDS["turned"], mosaic=1.0, mixup=1.0, close_epoch=3))
    layout = Layout(data.cache)
    for epoch in range(6):
        plan = plan_batch(data, layout, [(epoch, index, 0) for index in range(COUNT)])
        tiles = (plan.images.limits[..., 2] > 0).sum(1)
        if epoch < 3:
            assert tiles.max() > 1 and plan.mixed_into == list(range(COUNT))
        else:
            assert tiles.max() == 1 and not plan.mixed_into


def batches_of(loader: Loader, epoch: int, start: int = 0) -> list[Batch]:
    batches = list(loader.epoch(epoch, start_step=start))
    loader.close()
    return batches


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.indices == b.indices and torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_batches_do_not_depend_on_who_plans_them(
    folder: Path, workers: int, context: str
) -> None:
    data = make_data(folder, LIVELY)
    painter = painter_of(data)
    loader = Loader(data, 3, shuffle=True, seed=5, workers=0, painter=painter)
    reference = batches_of(loader, 2)
    plain = batches_of(Loader(data, 3, shuffle=True, seed=5, workers=0), 2)
    for ours, theirs in zip(reference, plain, strict=True):
        assert ours.indices == theirs.indices and torch.equal(ours.boxes, theirs.boxes)
    loader = Loader(
        data, 3, shuffle=True, seed=5, workers=workers, context=context, painter=painter
    )
    assert loader.workers == workers
    assert equal(list(loader.epoch(2)), reference)
    assert equal(batches_of(loader, 2, start=1), reference[1:])


def test_ranks_share_the_batches_of_one_device(folder: Path) -> None:
    data = make_data(folder, LIVELY)
    painter = painter_of(data)
    whole = batches_of(Loader(data, 4, shuffle=True, workers=0, painter=painter), 1)
    parts = [
        batches_of(
            Loader(data, 4, shuffle=True, workers=0, painter=painter, rank=rank, world_size=2), 1
        )
        for rank in range(2)
    ]
    for step, batch in enumerate(whole[:-1]):
        assert torch.equal(batch.images, torch.cat([part[step].images for part in parts]))


def test_an_unreadable_image_is_skipped_when_the_device_is_filled(tmp_path: Path) -> None:
    records = make_records(tmp_path, 3)
    records[1].path.write_bytes(b"")
    data = DetectionDataset(records, SIDE, augment=QUIET)
    DevicePainter(data, CPU).fill()
    assert list(data.lost) == [1] and "1.png" in data.lost[1]
    used = {tile.index for index in range(3) for tile in data.drawing((0, index, 0)).tiles}
    assert used == {0, 2}


def test_progress_counts_the_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_augment, "_READ_AT_ONCE", 3)
    seen: list[tuple[int, int]] = []
    DevicePainter(make_data(folder, QUIET), CPU).fill(lambda *progress: seen.append(progress))
    assert seen == [(3, 7), (6, 7), (7, 7)]


# ---------------------------------------------------------------- the choice


def test_auto_draws_on_a_card_that_has_room_and_nowhere_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(make_data(folder, LIVELY).cache)
    card = torch.device("cuda", 0)
    for free, expected in ((4 * layout.bytes, True), (4 * layout.bytes - 4, False)):
        monkeypatch.setattr(device_augment, "_free_memory", lambda device, free=free: free)
        assert choose_device("auto", layout, card)[0] is expected
        assert choose_device("cuda", layout, card)[0] is True
        assert choose_device("cpu", layout, card)[0] is False
        assert choose_device("auto", layout, CPU)[0] is False
    monkeypatch.setattr(device_augment, "_free_memory", lambda device: layout.bytes)
    with pytest.raises(ValueError, match="use augment_device=cpu"):
        choose_device("cuda", layout, card)
    with pytest.raises(ValueError, match="use augment_device=auto"):
        choose_device("cuda", layout, CPU)


def test_a_card_is_not_asked_for_where_the_run_has_none(tmp_path: Path) -> None:
    yaml = write_tiny_data(tmp_path)
    config, given = train_config(yaml, tmp_path, augment_device="cuda")
    with pytest.raises(UsageError, match="augment_device=cuda needs a GPU"):
        check_train(config, given)


def test_memory_is_what_the_layout_says(folder: Path) -> None:
    painter = painter_of(make_data(folder, LIVELY))
    assert painter.layout.bytes == painter._row.nbytes


def test_training_draws_on_the_device_and_validates_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    yaml = write_tiny_data(tmp_path / "data")
    plain = train(yaml, tmp_path / "plain")
    config, _ = train_config(yaml, tmp_path, cache="auto")
    run = assembling.assemble(config, Log(verbose=False))
    expected = batches_of(run.val_loader, 0)
    monkeypatch.setattr(assembling, "draws_on_device", lambda *_: True)
    run = assembling.assemble(config, Log(verbose=False))
    assert run.train_loader._painter is not None and run.val_loader._painter is None
    assert "no cache" in run.train_loader.dataset.cache.describe()  # the device has the images
    assert equal(batches_of(run.val_loader, 0), expected)
    painted = train(yaml, tmp_path / "painted")
    assert painted["metrics"].keys() == plain["metrics"].keys()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each("kind", KINDS)
def test_a_card_draws_what_torch_draws_on_the_cpu(kind: str, folder: Path) -> None:
    data = make_data(folder, KINDS[kind])
    keys = keys_of(6)
    errors = np.abs(pixels(drawn(data, keys, torch.device("cuda"))) - pixels(drawn(data, keys)))
    assert errors.mean() < 0.05 and np.percentile(errors, 99.9) <= 2
