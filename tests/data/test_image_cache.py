"""The cache of decoded images: the same images as without it, in the room it was given."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fill_cache import fill_every_second
from rows import each
from scenes import LIVELY, make_records
from tiny import train_config, use_tiny_detector, write_tiny_data
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images import cache as cache_module
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.images.image import read_image, resize_to
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import assemble
from yolodet.files.limits import available_memory

SIDE = 64
RIGS = Path(__file__).parents[1] / "rigs"


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return make_records(tmp_path / "images", 8)


def fill(cache: ImageCache, records: list[Record]) -> None:
    data = DetectionDataset(records, SIDE, augment=None, cache=cache)
    for index in range(len(records)):
        data[0, index, 0]


def held(cache: ImageCache) -> list[int]:
    return [index for index in range(len(cache)) if cache.get(index) is not None]


@each("mode", ["auto", "ram", "disk", "none"])
def test_samples_with_a_cache_equal_those_without(
    records: list[Record], tmp_path: Path, mode: str
) -> None:
    cache = ImageCache(records, SIDE, mode=mode, folder=tmp_path / "cache")
    for augment in (None, LIVELY):
        cached = DetectionDataset(records, SIDE, augment=augment, cache=cache)
        without = DetectionDataset(records, SIDE, augment=augment)
        for epoch in range(2):  # decoded, then kept
            for index in range(len(records)):
                first, second = cached[epoch, index, 0], without[epoch, index, 0]
                assert np.array_equal(first.image, second.image)
                assert np.array_equal(first.boxes, second.boxes)
    assert held(cache) == ([] if mode == "none" else list(range(8)))


def test_kept_images_are_the_resized_files_and_cannot_be_written_to(records: list[Record]) -> None:
    cache = ImageCache(records, SIDE)
    assert held(cache) == []
    fill(cache, records)
    for index, record in enumerate(records):
        image = cache.get(index)
        assert image is not None and np.array_equal(image, resize_to(read_image(record.path), SIDE))
        with pytest.raises(ValueError, match="read-only"):
            image[0, 0] = 0


def test_second_epoch_reads_no_file(records: list[Record]) -> None:
    cache = ImageCache(records, SIDE)
    fill(cache, records)
    for record in records:
        record.path.unlink()
    fill(cache, records)


@each("context", ["fork", "spawn"])
@each("mode", ["ram", "disk"])
def test_processes_fill_one_cache_together(
    records: list[Record], tmp_path: Path, context: str, mode: str
) -> None:
    cache = ImageCache(records, SIDE, mode=mode, folder=tmp_path / "cache", fingerprint="a")
    start = multiprocessing.get_context(context).Process
    children = [
        start(target=fill_every_second, args=(cache, records, half, SIDE)) for half in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert held(cache) == list(range(8))
    for index, record in enumerate(records):
        assert np.array_equal(cache.get(index), resize_to(read_image(record.path), SIDE))
    if mode == "disk":  # whichever child was last gave it its name
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".rgb"]


def test_file_gets_its_name_when_it_is_whole_and_serves_the_next_run(
    records: list[Record], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    cache = ImageCache(records, SIDE, mode="disk", folder=folder, fingerprint="a")
    assert "filled on the way" in cache.describe()
    data = DetectionDataset(records, SIDE, augment=None, cache=cache)
    for index in range(7):
        data[0, index, 0]
    assert list(folder.glob("*.rgb")) == []
    data[0, 7, 0]
    (file,) = folder.iterdir()
    assert file.suffix == ".rgb"
    for record in records:
        record.path.unlink()
    again = ImageCache(records, SIDE, mode="disk", folder=folder, fingerprint="a")
    assert "complete since an earlier run" in again.describe()
    fill(again, records)
    assert held(again) == list(range(8))
    for fingerprint, image_size in (("b", SIDE), ("a", 2 * SIDE)):
        other = ImageCache(records, image_size, mode="disk", folder=folder, fingerprint=fingerprint)
        assert held(other) == []


def test_damaged_file_is_not_taken(records: list[Record], tmp_path: Path) -> None:
    cache = ImageCache(records, SIDE, mode="disk", folder=tmp_path / "cache")
    fill(cache, records)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    again = ImageCache(records, SIDE, mode="disk", folder=tmp_path / "cache")
    assert held(again) == []
    fill(again, records)
    assert held(ImageCache(records, SIDE, mode="disk", folder=tmp_path / "cache")) == list(range(8))


def _forget(cache: ImageCache) -> None:
    cache._file = None


def test_unfinished_file_goes_with_its_process(records: list[Record], tmp_path: Path) -> None:
    """Also when a forked child ends first, which must not take it away; what a killed process left,
    of any data set, goes with the next file that is made."""
    folder = tmp_path / "cache"
    cache = ImageCache(records, SIDE, mode="disk", folder=folder)
    child = multiprocessing.get_context("fork").Process(target=_forget, args=(cache,))
    child.start()
    child.join()
    (part,) = folder.iterdir()
    old = folder / "images-640-of-other-data.rgb.crashed.part"
    old.touch()
    ImageCache(records, SIDE, mode="disk", folder=folder)
    assert part.exists() and not old.exists()
    del cache
    assert list(folder.iterdir()) == []


def test_budget_that_holds_a_part_holds_a_part(records: list[Record]) -> None:
    sizes = [resize_to(read_image(record.path), SIDE).nbytes for record in records]
    budget = 4096 + 8 + sum(sizes) // 2
    cache = ImageCache(records, SIDE, budget=budget)
    fill(cache, records)
    kept = held(cache)
    assert 2 <= len(kept) < 8
    assert sum(sizes[index] for index in kept) <= budget
    assert f"{100 * len(kept) // 8} % of the images" in cache.describe()
    for index in kept:
        expected = resize_to(read_image(records[index].path), SIDE)
        assert np.array_equal(cache.get(index), expected)
    nothing = ImageCache(records, SIDE, budget=100)
    fill(nothing, records)
    assert held(nothing) == [] and "budget is 0 kB" in nothing.describe()


def test_auto_prefers_memory_then_disk(records: list[Record], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert "in memory" in ImageCache(records, SIDE, folder=folder).describe()
    assert not folder.exists()
    assert "on disk" in ImageCache(records, SIDE, folder=folder, budget=9999).describe()
    assert "in memory" in ImageCache(records, SIDE, mode="ram", folder=folder).describe()
    assert "no cache" in ImageCache(records, SIDE, mode="none").describe()


def test_disk_without_room_or_rights_falls_back_and_says_why(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    blocked = ImageCache(records, SIDE, mode="disk", folder=tmp_path / "file", budget=30_000)
    assert "cannot be used" in blocked.describe() and "% of the images" in blocked.describe()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)
    full = ImageCache(records, SIDE, mode="disk", folder=tmp_path / "cache", budget=30_000)
    assert "only 1 kB free" in full.describe()
    fill(full, records)
    assert held(full)


def test_file_larger_than_what_may_stay_mapped_stays_right(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_RESIDENT", 20_000)
    cache = ImageCache(records, SIDE, mode="disk", folder=tmp_path / "cache")
    for _ in range(3):
        fill(cache, records)
        for index, record in enumerate(records):
            assert np.array_equal(cache.get(index), resize_to(read_image(record.path), SIDE))


def test_resident_memory_of_a_large_file_on_disk_is_bounded(tmp_path: Path) -> None:
    """800 images of 786 kB, read twice: 629 MB go by, a third of them may be resident."""
    program = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from peak_memory import peak_memory
from yolodet.datasets.images import cache as cache_module
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.formats.record import Record
cache_module._RESIDENT = 40 * 2**20
record = Record(Path("x"), (512, 512), np.zeros((0, 4)), np.zeros(0))
cache = ImageCache([record] * 400, 512, mode="disk", folder=Path(sys.argv[1]))
image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
before = peak_memory()
for index in range(400):
    cache.put(index, image)
for index in range(400):
    assert (cache.get(index) == image).all()
print((peak_memory() - before) // 2**20)
"""
    command = [sys.executable, "-c", program, str(tmp_path), str(RIGS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80


def test_wrong_words_and_wrong_images_are_refused(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cache=ssd: expected one of auto, ram, disk, none"):
        ImageCache(records, SIDE, mode="ssd")
    with pytest.raises(ValueError, match="needs a folder"):
        ImageCache(records, SIDE, mode="disk")
    with pytest.raises(ValueError, match=r"expected .* got 5 x 4"):
        ImageCache(records, SIDE).put(0, np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="make the cache from the same records"):
        DetectionDataset(records, 2 * SIDE, augment=None, cache=ImageCache(records, SIDE))
    with pytest.raises(ValueError, match="at least one record"):
        DetectionDataset([], SIDE, augment=None)


def test_pickling_outside_of_starting_a_process_shares_too(records: list[Record]) -> None:
    """What forkserver and queues do: the copy is a window on the same memory."""
    cache = ImageCache(records, SIDE)
    copy = pickle.loads(pickle.dumps(cache))
    fill(copy, records)
    assert held(cache) == list(range(8))


def test_available_memory_respects_control_groups(tmp_path: Path) -> None:
    own, meminfo = tmp_path / "own", tmp_path / "meminfo"
    own.write_text("0::/box\n")
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert available_memory(tmp_path, own, meminfo) == 4000 * 1024
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "memory.max").write_text("max\n")
    (tmp_path / "box" / "memory.current").write_text("2000000\n")
    assert available_memory(tmp_path, own, meminfo) == 4000 * 1024
    (tmp_path / "box" / "memory.max").write_text("3000000\n")
    assert available_memory(tmp_path, own, meminfo) == 1000000
    (tmp_path / "box" / "memory.stat").write_text("anon 5\ninactive_file 500000\n")
    assert available_memory(tmp_path, own, meminfo) == 1500000


def test_available_memory_respects_the_limit_of_the_address_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource")
    infinite, free = resource.RLIM_INFINITY, available_memory()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**50, infinite))
    assert available_memory() == pytest.approx(free, rel=0.2)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1000, infinite))
    assert available_memory() == 0


def test_files_that_no_run_has_used_for_a_month_make_room(
    records: list[Record], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    long_ago = time.time() - 31 * 86400
    for name in "ab":
        fill(ImageCache(records, SIDE, mode="disk", folder=folder, fingerprint=name), records)
    for file in folder.iterdir():
        os.utime(file, (long_ago, long_ago))
    (folder / "notes.txt").write_text("not ours")
    os.utime(folder / "notes.txt", (long_ago, long_ago))
    again = ImageCache(records, SIDE, mode="disk", folder=folder, fingerprint="a")
    assert len(list(folder.glob("*.rgb"))) == 2, "opening one makes no room, and marks it as used"
    third = ImageCache(records, SIDE, mode="disk", folder=folder, fingerprint="c")
    assert len(list(folder.glob("*.rgb"))) == 1 and (folder / "notes.txt").exists()
    assert held(again) == list(range(8)) and held(third) == []


@pytest.mark.parametrize("mode", ["ram", "auto"])
def test_two_caches_of_a_run_share_one_budget(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is taken when images come in, so the second cache cannot see what the first has."""
    use_tiny_detector(monkeypatch)
    config, _ = train_config(write_tiny_data(tmp_path / "data"), tmp_path, cache=mode)
    whole = [loader.dataset.cache.memory for loader in loaders_of(config)]
    assert min(whole) > 0
    free = int((whole[0] + whole[1] // 2) / {"ram": 0.75, "auto": 0.25}[mode])
    monkeypatch.setattr(cache_module, "available_memory", lambda: free)
    first, second = (loader.dataset.cache for loader in loaders_of(config))
    assert first.memory == whole[0] and second.memory < whole[1] // 2
    if mode == "auto":
        assert "on disk" in second.describe() and second.memory == 0


def loaders_of(config: TrainConfig) -> tuple[Loader, Loader]:
    run = assemble(config, Log(verbose=False))
    run.close()
    return run.train_loader, run.val_loader
