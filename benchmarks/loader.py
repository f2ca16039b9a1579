"""Images per second of the data path on one core, compared with the unavoidable work.

    python benchmarks/loader.py [--image-size 640] [--images 64] [--rounds 7] [--peer PYTHON]
        [--out FOLDER]
    python benchmarks/loader.py --beside-model [--image-size 320] [--batch 16]

The first form measures, in interleaved rounds on one thread: decoding the JPEG files; the four
warps of each mosaic alone (the pipeline's own matrices and rectangles, nothing else); the mosaic
pipeline from cached images, as it is by default and with rotation and shear; the closing epochs
without mosaic; the letterbox of validation; and, given its python, the peer's mosaic pipeline with
its defaults, from its own cache, as a program of its own each round. Time is the processor time of
the thread. Shares are medians over rounds, because a machine's speed moves between rounds but less
within one. Its page goes to docs/benchmarks/.

The second form asks how batches should be prepared beside a model that trains on the same cores.
It measures steps of yolo26n with each way in turn, and compares the fastest tenth of the steps:
other programs on the machine can only make a step slower.

Images are made up: 640 x 480 JPEGs with the detail of photographs.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from children import run
from pages import add_out, hardware, shown, spread, table, write_page
from yolodet.datasets.augment.transforms import translated, warp_boxes
from yolodet.datasets.batches.dataset import Augment, DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.cache import ImageCache
from yolodet.detector.models.build import build

HERE = Path(__file__).parent
DEFAULT = Augment(0.015, 0.7, 0.4, 0.0, 0.1, 0.5, 0.0, 0.0, 0.5, 1.0, 0.0, 10**6)
"""The training defaults: color, translation, zoom, left-right flips, mosaic."""
TURNED = Augment(0.015, 0.7, 0.4, 10.0, 0.1, 0.5, 2.0, 0.0, 0.5, 1.0, 0.0, 10**6)
WARPS = "four warps alone"
DECODE = "JPEG decode alone"
PEER = "the peer's mosaic pipeline"
ALONE = "model alone, the same batch again"
Rates = dict[str, list[float]]


def make_records(folder: Path, count: int) -> list[Record]:
    """JPEG files of 640 x 480 with structure at all scales, a dozen boxes each."""
    records = []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = np.zeros((480, 640, 3), np.float32)
        for scale in (4, 16, 64, 256):
            noise = rng.normal(0, 30, (max(480 // scale, 2), max(640 // scale, 2), 3))
            image += cv2.resize(noise.astype(np.float32), (640, 480), interpolation=cv2.INTER_CUBIC)
        path = folder / f"{number:04}.jpg"
        cv2.imwrite(str(path), (image + 120).clip(0, 255).astype(np.uint8))
        corners = rng.uniform(0, 0.8, (12, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(0.05, 0.2, (12, 2))), 1)
        boxes = (boxes * (640, 480, 640, 480)).astype(np.float32)
        records.append(Record(path, (480, 640), boxes, rng.integers(0, 3, 12)))
    return records


def write_yolo(records: list[Record], folder: Path) -> Path:
    """Labels beside the images of ``folder / "images"``, and the data.yaml that names them."""
    (folder / "labels").mkdir()
    for record in records:
        height, width = record.size
        centers = (record.boxes[:, :2] + record.boxes[:, 2:]) / 2
        rows = np.concatenate((centers, record.boxes[:, 2:] - record.boxes[:, :2]), 1)
        table = np.column_stack((record.labels, rows / (width, height, width, height)))
        np.savetxt(folder / "labels" / f"{record.path.stem}.txt", table, "%d" + " %.6f" * 4)
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [a, b, c]\n")
    return data


def peer_of(python: str, data: Path, image_size: int) -> Callable[[], float]:
    """A function that measures the peer's mosaic pipeline once, in images per second."""
    words = [python, HERE / "peer_loader.py", "--data", data, "--imgsz", image_size]
    return lambda: float(run([str(word) for word in words])["images_per_s"])


def filled(records: list[Record], image_size: int, augment: Augment | None) -> DetectionDataset:
    """A data set with every image in its cache."""
    data = DetectionDataset(
        records, image_size, augment=augment, cache=ImageCache(records, image_size, mode="ram")
    )
    for index in range(len(data)):
        data.read(index)
    return data


def warps_of(data: DetectionDataset, epoch: int, output: np.ndarray) -> list[list[tuple]]:
    """Arguments of cv2.warpAffine for the tiles of each mosaic of an epoch."""
    samples = []
    for index in range(len(data)):
        calls = []
        for placement in data.plan((epoch, index, 0)).placements:
            x0, y0, x1, y1 = placement.crop
            matrix = translated(placement.matrix, x0, y0)
            part = data.read(placement.index)[y0:y1, x0:x1]
            bounds = np.array(((0.0, 0.0, x1 - x0, y1 - y0),))
            bounds = warp_boxes(bounds, matrix[None])[0].clip(0, data.input.height)
            left, top, right, bottom = bounds.round().astype(int).tolist()
            if left < right and top < bottom and part.size:
                matrix[:, 2] -= (left, top)
                calls.append((part, matrix, output[top:bottom, left:right]))
        samples.append(calls)
    return samples


def rate(work: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    """Images per second of ``work``, which does ``count``."""
    started = clock()
    work()
    return count / (clock() - started)


def measure(
    records: list[Record], image_size: int, rounds: int, peer: Callable[[], float] | None
) -> Rates:
    """Images per second of every row, one value per round.  peer: measures the peer's once."""
    datasets = {
        "mosaic pipeline": filled(records, image_size, DEFAULT),
        "mosaic pipeline, rotation and shear": filled(records, image_size, TURNED),
        "closing epochs, no mosaic": filled(records, image_size, _without_mosaic()),
        "letterbox": filled(records, image_size, None),
    }
    files = [np.frombuffer(record.path.read_bytes(), np.uint8) for record in records]
    output = np.empty((image_size, image_size, 3), np.uint8)
    rates: Rates = {DECODE: [], WARPS: [], **{name: [] for name in datasets}}
    for epoch in range(-1, rounds):
        samples = warps_of(datasets["mosaic pipeline"], max(epoch, 0), output)
        work: dict[str, Callable[[], object]] = {
            DECODE: lambda: [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files],
            WARPS: partial(_warp, samples),
        }
        for name, data in datasets.items():
            work[name] = partial(_draw, data, max(epoch, 0), output)
        for name, function in work.items():
            value = rate(function, len(records), time.thread_time)
            if epoch >= 0:  # the first round warms up
                rates[name].append(value)
        if peer is not None and epoch >= 0:
            rates.setdefault(PEER, []).append(peer())
    return rates


def _without_mosaic() -> Augment:
    return Augment(0.015, 0.7, 0.4, 0.0, 0.1, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 10**6)


def _warp(samples: list[list[tuple]]) -> None:
    for calls in samples:
        for part, matrix, target in calls:
            cv2.warpAffine(
                part,
                matrix,
                target.shape[1::-1],
                dst=target,
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_TRANSPARENT,
            )


def _draw(data: DetectionDataset, epoch: int, output: np.ndarray) -> None:
    for index in range(len(data)):
        data.draw((epoch, index, 0), output)


def beside_model(records: list[Record], image_size: int, batch: int, rounds: int) -> Rates:
    """Images per second of training steps with each way to prepare batches, one step per round."""
    data = filled(records, image_size, DEFAULT)
    model = build("yolo26n", 3).to(memory_format=torch.channels_last).train()
    loaders = {
        "all cores, when asked (workers=0)": Loader(data, batch, shuffle=True, workers=0),
        "one core, when asked": Loader(data, batch, shuffle=True, workers=0),
        "one thread, one batch ahead": Loader(data, batch, shuffle=True, workers=0),
        "one process, two batches ahead": Loader(data, batch, shuffle=True, workers=1),
    }
    loaders["one core, when asked"]._pool_size = 1
    ahead = loaders["one thread, one batch ahead"]
    ahead._pool_size, ahead._device_type = 1, "ahead"
    fixed = next(loaders["one core, when asked"].epoch(0)).images
    rates: Rates = {ALONE: [], **{name: [] for name in loaders}}
    streams = {name: _endless(loader) for name, loader in loaders.items()}
    for turn in range(-1, rounds):
        for name in rates:
            stream = streams.get(name)
            value = rate(partial(_step, model, stream, fixed), batch, time.perf_counter)
            if turn >= 0:
                rates[name].append(value)
    for loader in loaders.values():
        loader.close()
    return rates


def _endless(loader: Loader) -> Iterator[torch.Tensor]:
    for epoch in itertools.count():
        yield from (batch.images for batch in loader.epoch(epoch))


def _step(
    model: torch.nn.Module, stream: Iterator[torch.Tensor] | None, images: torch.Tensor
) -> None:
    """Forward and backward in bf16; what is learned does not matter here."""
    if stream is not None:
        images = next(stream)
    with torch.autocast("cpu", torch.bfloat16):
        branches = model(images.float() / 255.0).values()
    loss = sum(b.logits.float().square().mean() + b.distances.square().mean() for b in branches)
    loss.backward()
    model.zero_grad(set_to_none=True)


def as_table(rates: Rates, against: list[str], quantile: float) -> str:
    """Images per second and milliseconds per image of every row, and what share of the speed of the
    rows ``against`` that is, by rounds."""
    rows = []
    for name, values in rates.items():
        value = float(np.quantile(values, quantile))
        shares = [
            shown(spread((np.array(values) / rates[base] * 100).tolist()), 0) for base in against
        ]
        rows.append([name, f"{value:.0f}", f"{1000 / value:.2f}", *shares])
    return table(("", "images/s", "ms", *(f"% of {base}" for base in against)), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--peer", help="python of an environment that has the peer")
    parser.add_argument("--beside-model", action="store_true")
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        records = make_records(folder / "images", options.images)
        if options.beside_model:
            rates = beside_model(records, options.image_size, options.batch, options.rounds)
            lines = as_table(rates, [ALONE], 0.9)
            title = f"# Training steps by who prepares the batches, {options.image_size} px"
        else:
            cv2.setNumThreads(1)
            peer = None
            if options.peer:
                peer = peer_of(options.peer, write_yolo(records, folder), options.image_size)
            rates = measure(records, options.image_size, options.rounds, peer)
            lines = as_table(rates, [WARPS, DECODE, *([PEER] if peer else [])], 0.5)
            title = f"# The data path on one core, {options.image_size} px"
    facts = {
        "image_size": options.image_size,
        "images": options.images,
        "opencv": cv2.__version__,
        "images_per_s": rates,
    }
    said = "Shares: median, least and most over the rounds."
    name = "loader-beside-model" if options.beside_model else "loader"
    write_page(options.out, name, "", hardware(), [title, said, lines], facts)


if __name__ == "__main__":
    main()
