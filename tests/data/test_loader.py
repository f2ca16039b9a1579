"""The loader: the same batches whoever prepares them, each image where it belongs."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rows import each
from scenes import LIVELY, make_records, record_of
from yolodet.datasets.batches import loader as loader_module
from yolodet.datasets.batches.dataset import DetectionDataset, Key
from yolodet.datasets.batches.loader import Loader, choose_workers
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.images.image import ImageError
from yolodet.datasets.nouns import Batch, Sample

COUNT = 11


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return DetectionDataset(
        make_records(tmp_path_factory.mktemp("images"), COUNT), 64, augment=LIVELY, seed=3
    )


@pytest.fixture(scope="module")
def plain(dataset: DetectionDataset) -> DetectionDataset:
    records = [record_of(dataset, index) for index in range(COUNT)]
    return DetectionDataset(records, 64, augment=None)


def indices(batches: Iterator[Batch]) -> list[list[int]]:
    return [batch.indices for batch in batches]


def joined(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.boxes, b.boxes)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.batch_index, b.batch_index)
        and (a.indices, a.paths, a.original_sizes) == (b.indices, b.paths, b.original_sizes)
        for a, b in zip(first, second, strict=True)
    )


def batch_of(samples: list[Sample], keys: list[Key]) -> Batch:
    """What a batch of these samples is, with torch's own stacking."""
    counts = torch.tensor([len(sample.boxes) for sample in samples])
    return Batch(
        images=torch.stack([torch.from_numpy(s.image).permute(2, 0, 1) for s in samples]),
        boxes=torch.cat([torch.from_numpy(sample.boxes) for sample in samples]),
        labels=torch.cat([torch.from_numpy(sample.labels) for sample in samples]),
        batch_index=torch.arange(len(samples)).repeat_interleave(counts),
        indices=[index for _, index, _ in keys],
        paths=[sample.path for sample in samples],
        original_sizes=[sample.original_size for sample in samples],
        letterboxes=[sample.letterbox for sample in samples],
    )


@each(
    ("workers", "context"), [(0, None), (1, "fork"), (2, "fork"), (1, "spawn")]
)
def test_batches_do_not_depend_on_who_prepares_them(
    dataset: DetectionDataset, workers: int, context: str | None
) -> None:
    """Nor on where the epoch is entered, or on an epoch that was left before its end."""
    records = [record_of(dataset, index) for index in range(COUNT)]
    cached = DetectionDataset(records, 64, augment=LIVELY, seed=3, cache=ImageCache(records, 64))
    loader = Loader(cached, 4, shuffle=True, seed=5, workers=workers, context=context)
    assert loader.workers == workers
    reference = []
    for keys in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]):
        order = [loader._keys(2)[place] for place in keys]
        reference.append(batch_of([dataset[key] for key in order], order))
    assert same(list(loader.epoch(2)), reference)
    assert same(list(loader.epoch(2, start_step=1)), reference[1:])
    left = loader.epoch(1)
    assert not same([next(left)], reference[:1])
    del left
    assert same(list(loader.epoch(2, start_step=2)), reference[2:])
    assert list(loader.epoch(2, start_step=3)) == []
    loader.close()


def test_closed_loader_can_be_used_again(dataset: DetectionDataset) -> None:
    for workers in (0, 1):
        loader = Loader(dataset, 4, shuffle=True, workers=workers)
        first = list(loader.epoch(2))
        loader.close()
        assert same(list(loader.epoch(2)), first)
        loader.close()


def test_steps_before_the_start_are_not_loaded(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = DetectionDataset.draw

    def watched(self: DetectionDataset, key: Key, output: np.ndarray) -> Sample:
        drawn.append(key[1])
        return draw(self, key, output)

    monkeypatch.setattr(DetectionDataset, "draw", watched)
    loader = Loader(dataset, 4, shuffle=True, workers=0)
    last = indices(loader.epoch(0, start_step=2))
    assert sorted(drawn) == sorted(last[0]) and len(drawn) == 3
    loader.close()


def test_a_cpu_device_gets_a_batch_when_it_asks_and_others_one_ahead(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    original = loader_module._BegunBatch

    class Watched(original):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: object) -> None:
            begun.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(loader_module, "_BegunBatch", Watched)
    monkeypatch.setattr(loader_module, "choose_workers", lambda *_: 0)
    for device_type, counts in (("cpu", [1, 2, 3]), ("mps", [2, 3, 3])):
        begun.clear()
        loader = Loader(dataset, 4, shuffle=True, device_type=device_type)
        assert [len(begun) for _ in loader.epoch(0)] == counts
        loader.close()


def test_order_is_a_new_permutation_every_epoch_and_for_every_seed(
    dataset: DetectionDataset,
) -> None:
    loader = Loader(dataset, 4, shuffle=True, workers=0)
    orders = [joined(indices(loader.epoch(epoch))) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(COUNT))
    other = Loader(dataset, 4, shuffle=True, seed=1, workers=0)
    assert joined(indices(other.epoch(0))) != orders[0]
    assert [len(batch) for batch in loader.epoch(0)] == [4, 4, 3]
    assert (len(loader), loader.smallest_batch) == (3, 3)


def test_unshuffled_order_is_that_of_the_records(plain: DetectionDataset) -> None:
    loader = Loader(plain, 4, shuffle=False, workers=0)
    assert indices(loader.epoch(7)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    batch = next(loader.epoch(0))
    assert all(letterbox is not None for letterbox in batch.letterboxes)


def test_repeats_show_each_image_again_with_other_random_numbers(
    dataset: DetectionDataset,
) -> None:
    loader = Loader(dataset, 8, shuffle=True, repeats=3, workers=0)
    batches = list(loader.epoch(0))
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 1]
    assert (len(loader), loader.smallest_batch) == (5, 1)
    order = [index for batch in batches for index in batch.indices]
    for start in range(0, 3 * COUNT, COUNT):  # every repeat is a whole pass
        assert sorted(order[start : start + COUNT]) == list(range(COUNT))
    images = torch.cat([batch.images for batch in batches])
    of_first = [images[place] for place, index in enumerate(order) if index == 0]
    assert len(of_first) == 3
    assert not any(torch.equal(of_first[a], of_first[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@each(
    ("batch_size", "drop_last", "lengths"),
    [(4, True, [4, 4]), (4, False, [4, 4, 3]), (16, False, [11]), (16, True, [11])],
)
def test_last_batch_is_dropped_unless_it_is_the_only_one(
    dataset: DetectionDataset, batch_size: int, drop_last: bool, lengths: list[int]
) -> None:
    loader = Loader(dataset, batch_size, shuffle=True, drop_last=drop_last, workers=0)
    assert [len(batch) for batch in loader.epoch(0)] == lengths
    assert (len(loader), loader.smallest_batch) == (len(lengths), min(lengths))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_each_batch_of_a_single_device(
    dataset: DetectionDataset, world_size: int
) -> None:
    """Training on several devices sees what training on one sees; the last step wraps."""
    whole = indices(Loader(dataset, 4, shuffle=True, workers=0).epoch(1))
    ranks = [
        Loader(dataset, 4, shuffle=True, workers=0, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    parts = [indices(loader.epoch(1)) for loader in ranks]
    assert {len(loader) for loader in ranks} == {3}
    for step in range(3):
        sizes = {len(part[step]) for part in parts}
        assert len(sizes) == 1
        together = joined(part[step] for part in parts)
        assert together[: len(whole[step])] == whole[step]
    assert together[3:] == whole[0][:1]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_validate_the_batches_of_one_process_in_turn(
    plain: DetectionDataset, world_size: int
) -> None:
    """Whole batches, so that no bit of an image depends on the ranks; some ranks may have none."""
    alone = indices(Loader(plain, 4, shuffle=False, workers=0).epoch(0))
    for rank in range(world_size):
        loader = Loader(plain, 4, shuffle=False, workers=0, rank=rank, world_size=world_size)
        mine = indices(loader.epoch(0))
        assert mine == alone[rank::world_size] and len(mine) == len(loader)


@pytest.mark.parametrize("wanted", [1, 3])
def test_as_many_threads_draw_as_compute(dataset: DetectionDataset, wanted: int) -> None:
    """So that ``threads=`` and OMP_NUM_THREADS limit both."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        loader = Loader(dataset, 4, shuffle=False, workers=0)
    finally:
        torch.set_num_threads(before)
    list(loader.epoch(0))
    drawing = [t for t in threading.enumerate() if t.name.startswith("loader")]
    loader.close()
    assert len(drawing) == wanted


def test_processes_that_get_a_sigterm_finish_the_epoch(dataset: DetectionDataset) -> None:
    """A SIGTERM to the process group is for the trainer, which saves first; a second one ends.

    The first one arrives while the processes start, before any of their code has run.
    """
    loader = Loader(dataset, 2, shuffle=True, workers=2)
    batches = loader.epoch(0)
    started = threading.Thread(target=_terminate_children)
    started.start()
    assert len(list(batches)) == len(loader)
    started.join()
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        for child in multiprocessing.active_children():
            while child.is_alive():  # a signal that arrives beside another one is merged with it
                os.kill(child.pid or 0, signal.SIGTERM)
                child.join(0.2)
        list(loader.epoch(1))
    loader.close()


def _terminate_children() -> None:
    """Send a SIGTERM to each of the two processes as soon as it exists."""
    told: set[int] = set()
    deadline = time.monotonic() + 120
    while len(told) < 2 and time.monotonic() < deadline:
        for child in multiprocessing.active_children():
            if child.pid and child.pid not in told:
                told.add(child.pid)
                os.kill(child.pid, signal.SIGTERM)


def test_batch_that_ranks_cannot_share_is_refused(dataset: DetectionDataset) -> None:
    with pytest.raises(ValueError, match="multiple of 3"):
        Loader(dataset, 16, shuffle=True, world_size=3)


def test_a_batch_is_uint8_channels_last_and_knows_its_boxes(dataset: DetectionDataset) -> None:
    batch = next(Loader(dataset, 4, shuffle=False, workers=0).epoch(0))
    samples = [dataset[0, index, 0] for index in range(4)]
    assert batch.images.shape == (4, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.boxes.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    for number, sample in enumerate(samples):
        mine = batch.batch_index == number
        assert np.array_equal(batch.boxes[mine].numpy(), sample.boxes)
        assert np.array_equal(batch.labels[mine].numpy(), sample.labels)
        assert np.array_equal(batch.images[number].permute(1, 2, 0).numpy(), sample.image)
    assert batch.indices == [0, 1, 2, 3] and len(batch) == 4


def test_a_batch_of_backgrounds_has_empty_tensors(plain: DetectionDataset) -> None:
    records = [record_of(plain, index) for index in (0, 4, 8)]  # those have no boxes
    data = DetectionDataset(records, 64, augment=None)
    batch = next(Loader(data, 3, shuffle=False, workers=0).epoch(0))
    assert batch.boxes.shape == (0, 4) and batch.labels.shape == batch.batch_index.shape == (0,)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_skipped_and_named_once(tmp_path: Path, workers: int) -> None:
    records = make_records(tmp_path, 5)
    records[2].path.write_bytes(records[2].path.read_bytes()[:-20])
    told: list[str] = []
    for augment in (None, LIVELY):
        loader = Loader(
            DetectionDataset(records, 64, augment=augment), 2, shuffle=False, workers=workers
        )
        loader.on_lost = told.append
        batches = [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]
        assert [index for batch in batches for index in batch.indices] == [0, 1, 2, 3, 4] * 2
        assert list(loader.lost) == [2] and 2 in batches[-1].lost
        loader.close()
    assert len(told) == 2 and all(str(records[2].path) in line for line in told)


def test_image_that_changed_since_the_scan_is_refused(tmp_path: Path) -> None:
    records = make_records(tmp_path, 2)
    data = DetectionDataset([replace(records[0], size=(10, 20)), records[1]], 64, augment=None)
    with pytest.raises(ImageError, match="was 20 x 10"):
        data.read(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_global_state_alone(dataset: DetectionDataset, workers: int) -> None:
    """Random states of torch and numpy, and OpenCV's threads in the process that trains."""
    state, threads = torch.get_rng_state(), cv2.getNumThreads()
    numbers = np.random.get_state()[1].copy()
    loader = Loader(dataset, 4, shuffle=True, workers=workers)
    list(loader.epoch(0))
    list(loader.epoch(1))
    loader.close()
    assert torch.equal(torch.get_rng_state(), state) and cv2.getNumThreads() == threads
    assert np.array_equal(np.random.get_state()[1], numbers)


def test_close_ends_processes_and_threads(dataset: DetectionDataset) -> None:
    """Also when somebody, a traceback say, still holds an epoch that was not finished."""
    for workers in (0, 2):
        before = set(threading.enumerate())
        loader = Loader(dataset, 4, shuffle=True, workers=workers)
        unfinished = loader.epoch(0)
        next(unfinished)
        children = [] if not workers else list(loader._processes._loader._iterator._workers)
        assert len(children) == workers and all(child.is_alive() for child in children)
        loader.close()
        started = set(threading.enumerate()) - before
        assert workers or not started
        assert not any(child.is_alive() for child in children)


def test_workers_follow_device_cores_and_length() -> None:
    assert choose_workers("cpu", 64, 1000) == 0
    assert choose_workers("cuda", 1, 1000) == 1
    assert choose_workers("cuda", 8, 1000) == 7
    assert choose_workers("cuda", 8, 3) == 3
    assert choose_workers("cuda", 256, 1000) == 16


def test_little_shared_memory_means_fewer_processes(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MB, what a container has by default, would kill workers with large batches."""

    class Small:
        f_bavail, f_frsize = 64 * 256, 4096

    monkeypatch.setattr(loader_module.os, "statvfs", lambda _: Small)
    whole = Loader(dataset, 4, shuffle=True, workers=3)
    assert (whole.workers, whole.fewer_workers) == (3, "")
    assert Loader(dataset, 4, shuffle=True, workers=4).fewer_workers == (
        "workers=4: 3 are used, as many as an epoch has batches"
    )
    records = [record_of(dataset, index) for index in range(COUNT)]
    large = DetectionDataset(records, 1280, augment=LIVELY)
    two = Loader(large, 1, shuffle=True, workers=9)
    assert two.workers == 2
    told = "workers=9: 2 are used, batches of more do not fit the shared memory"
    assert two.fewer_workers == told
    assert Loader(large, 16, shuffle=True, workers=9).workers == 0


def test_more_processes_than_cores_are_started_without_torchs_advice(
    dataset: DetectionDataset, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    loader = Loader(dataset, 4, shuffle=True, workers=3)
    assert len(list(loader.epoch(0))) == 3
    loader.close()
    told = [str(warning.message) for warning in recwarn]
    assert [text for text in told if "fork()" not in text] == []  # Python 3.12 has advice too
