"""Drawing training images on the training device, from all images of the data set in its memory.

A GPU draws mosaics faster than the cores beside it can feed it with drawn ones.  The images lie on
the device as one long row of pixels; a batch arrives as the plan of its tiles (device_plan.py), and
each output pixel is looked up in the row: which tile lies on top, where in it,
the four pixels around.  Then second images are blended in and colors are shifted.  What
is drawn differs from the CPU's drawing only by OpenCV's interpolation (short weights, and soft
edges of rotated tiles): colors are the same up to rounding.  Boxes are computed once for both.

Works on every torch device.  Images that do not fit the device are drawn on the CPU (see
``choose_device``).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...files.limits import available_memory
from ..augment.mosaic import half
from ..images.image import FILL
from ..nouns import Batch
from .dataset import DetectionDataset, LostImage
from .device_plan import Halved, Layer, Layout, PlannedBatch

SHARE = 0.25
"""Share of the free memory of a device that the images may take with ``auto``."""
_MOST = 0.9  # with the device named
_READ_AT_ONCE = 64  # images in the memory of the host while the device is filled


def choose_device(wanted: str, layout: Layout, device: torch.device) -> tuple[bool, str]:
    """Whether images are drawn on ``device``, and why, in a few words for the log.

    wanted: ``cpu``, ``auto`` or the type of the device.  Raises ValueError for the type of another
    device, or where the images do not fit.
    """
    if wanted == "cpu":
        return False, "on the CPU"
    if wanted not in ("auto", device.type):
        raise ValueError(
            f"augment_device={wanted}: the run is on {device}, and images can be drawn there or on "
            "the CPU; use augment_device=auto"
        )
    if wanted == "auto" and device.type != "cuda":
        return False, "on the CPU"
    free = _free_memory(device)
    needs = f"all images are {layout.bytes / 1e9:.2f} GB, {device} has {free / 1e9:.2f} GB free"
    if layout.bytes <= free * (SHARE if wanted == "auto" else _MOST):
        return True, f"on {device} ({needs})"
    if wanted == "auto":
        return False, f"on the CPU ({needs}, of which {SHARE:.0%} may be used)"
    raise ValueError(f"augment_device={wanted}: {needs}; use augment_device=cpu")


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


class DevicePainter:
    """The images of an augmented data set on ``device``, and the way batches are drawn from them.

    Memory is taken when it is made (``layout.bytes``) and filled by ``fill``.
    """

    def __init__(self, dataset: DetectionDataset, device: torch.device) -> None:
        self.layout = Layout(dataset.cache)
        self.device = device
        count = self.layout.total + self.layout.room
        self._row = torch.zeros((count, 3), dtype=torch.uint8, device=device)
        self._dataset = dataset

    def fill(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Read every image.  Raises ImageError if one cannot be read."""
        count = len(self._dataset)
        with ThreadPoolExecutor(torch.get_num_threads(), "fill") as pool:
            for start in range(0, count, _READ_AT_ONCE):
                stop = min(start + _READ_AT_ONCE, count)
                for index, image in enumerate(pool.map(self._read, range(start, stop)), start):
                    first = int(self.layout.firsts[index])
                    self._row[first : first + len(image)] = image
                if on_progress is not None:
                    on_progress(stop, count)

    def _read(self, index: int) -> Tensor:
        """[H*W,3] pixels of an image."""
        try:
            image = self._dataset.read(index).copy()
        except LostImage as error:
            self._dataset.lose(error)
            image = np.zeros((*self._dataset.cache.size(index), 3), np.uint8)
        return torch.from_numpy(image).view(-1, 3)

    @torch.no_grad()
    def draw(self, planned: PlannedBatch) -> Batch:
        """The batch with its images [B,3,H,W] uint8 (channels_last) on the device."""
        size, step = planned.size, self.layout.at_once
        images, mixed = planned.images.to(self.device), planned.mixed.to(self.device)
        count = len(planned.colors)
        output = torch.empty((count, *size, 3), dtype=torch.uint8, device=self.device)
        for start in range(0, count, step):
            output[start : start + step] = self._paint(images, start, size).to(torch.uint8)
        shares = planned.shares.to(self.device, non_blocking=True)
        for start in range(0, len(planned.mixed_into), step):
            into = self._places(planned.mixed_into[start : start + step])
            other, share = self._paint(mixed, start, size), shares[start : start + step]
            blended = torch.lerp(other, output[into].float(), share)
            output[into] = blended.round_().to(torch.uint8)
        colors = planned.colors.to(self.device, non_blocking=True)
        for start in range(0, len(planned.colored), step):
            places = self._places(planned.colored[start : start + step])
            output[places] = shift_color(output[places], colors[places])
        return replace(planned.batch, images=output.permute(0, 3, 1, 2))

    def _places(self, indices: list[int]) -> Tensor | slice:
        """An index of outputs; a slice, which copies nothing, if they are consecutive."""
        first, last = indices[0], indices[-1]
        if last - first + 1 == len(indices):
            return slice(first, last + 1)
        places = torch.tensor(indices)
        if self.device.type == "cuda":
            places = places.pin_memory()
        return places.to(self.device, non_blocking=True)

    def _paint(self, layer: Layer, start: int, size: tuple[int, int]) -> Tensor:
        """[n,H,W,3] float32 whole numbers: the outputs from ``start`` on, as many as fit."""
        stop = start + self.layout.at_once
        for job in layer.halved:
            if start <= job.output < stop:
                self._halve(job)
        part = slice(start, stop)
        return paint(
            self._row, layer.maps[part], layer.limits[part], layer.places[part],
            size=size, turned=layer.turned,
        )  # fmt: skip

    def _halve(self, job: Halved) -> None:
        """Halve a crop by area and put it into its room.

        Half of an odd side is no whole number of pixels: there the mean goes over three of them,
        a little softer than OpenCV's fractions.
        """
        shape, strides = (job.height, job.width, 3), (3 * job.stride, 3, 1)
        crop = self._row.as_strided(shape, strides, 3 * job.first)  # [h,w,3]
        small = crop.permute(2, 0, 1).float()
        for _ in range(job.count):
            width, height = half(small.shape[2], small.shape[1])
            small = F.adaptive_avg_pool2d(small, (height, width)).round_()
        pixels = small.permute(1, 2, 0).reshape(-1, 3)
        self._row[job.to : job.to + len(pixels)] = pixels.to(torch.uint8)


def paint(
    row: Tensor,
    maps: Tensor,
    limits: Tensor,
    places: Tensor,
    *,
    size: tuple[int, int],
    turned: bool,
) -> Tensor:
    """[N,H,W,3] float32 whole numbers: outputs of ``size`` on gray.

    row: [P,3] uint8 pixels of all images.  maps, limits, places, turned: as in Layer.
    """
    y = torch.arange(size[0], device=row.device, dtype=torch.float32)[:, None]  # [H,1]
    x = torch.arange(size[1], device=row.device, dtype=torch.float32)  # [W]
    shape = (len(maps), *size)
    u, v = row.new_zeros(shape, dtype=torch.float32), row.new_zeros(shape, dtype=torch.float32)
    owner = row.new_full(shape, -1, dtype=torch.int64)
    for tile in range(maps.shape[1]):
        a, b, c, d, e, f = maps[:, tile, :, None, None].unbind(1)  # [N,1,1] each
        x0, y0, x1, y1, last_x, last_y = limits[:, tile, :, None, None].unbind(1)
        # without rotation one row of numbers per axis is enough: [N,1,W] and [N,H,1]
        across, down = a * x + c, e * y + f
        if turned:
            across, down = across + b * y, down + d * x
        # a pixel that lies on the source, or no more than half a pixel beside its edge
        seen = (x >= x0) & (x < x1) & (across >= -1.0) & (across < last_x + 1.0)
        seen = seen & ((y >= y0) & (y < y1) & (down >= -1.0) & (down < last_y + 1.0))
        u = torch.where(seen, torch.minimum(across.clamp_min(0.0), last_x), u)
        v = torch.where(seen, torch.minimum(down.clamp_min(0.0), last_y), v)
        owner.masked_fill_(seen, tile)
    colors = _look_up(row, places, owner.clamp_min(0), u, v)
    return colors.masked_fill_((owner < 0).unsqueeze(3), float(FILL))


def _look_up(row: Tensor, places: Tensor, owner: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """[N,H,W,3] float32 whole numbers: bilinear between four pixels of the row.

    owner: [N,H,W] the tile that each pixel shows.  u, v: [N,H,W] where in it.  The right and lower
    neighbors of the last column and row are other pixels, but have no weight.
    """
    of = owner.flatten(1)
    first = places[:, :, 0].gather(1, of).view_as(owner)
    stride = places[:, :, 1].gather(1, of).view_as(owner)
    left, top = u.floor(), v.floor()
    right_share, lower_share = (u - left).unsqueeze(3), (v - top).unsqueeze(3)
    index = first + top.long() * stride + left.long()
    upper = torch.lerp(row[index].float(), row[index + 1].float(), right_share)
    index = index + stride
    lower = torch.lerp(row[index].float(), row[index + 1].float(), right_share)
    return upper.lerp_(lower, lower_share).round_()


def shift_color(images: Tensor, colors: Tensor) -> Tensor:
    """[N,H,W,3] uint8 RGB with their colors shifted as transforms.py does it: bytes in between.

    colors: [N,11] as in PlannedBatch.
    """
    red, green, blue = images.float().unbind(3)  # [N,H,W] each
    numbers = colors[:, :, None, None].unbind(1)  # [N,1,1] each
    turned = []
    for k in (0, 3, 6):
        mixed = numbers[k] * red + numbers[k + 1] * green + numbers[k + 2] * blue
        turned.append((mixed + 0.5).floor_().clamp_(0.0, 255.0))  # OpenCV rounds a half up here
    largest = torch.maximum(torch.maximum(turned[0], turned[1]), turned[2]) * numbers[10]
    shifted = [numbers[9] * channel + largest for channel in turned]
    return torch.stack([x.round_().clamp_(0.0, 255.0) for x in shifted], 3).byte()
