"""``tile=`` in training: the splits of a run as the tiles that are drawn and measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from ...datasets.batches.tiles import Tiles, cut, sample_empty
from ...datasets.formats.record import Record
from ...datasets.images.tiling import DEFAULT_OVERLAP, Tiling
from ...datasets.scan.scan import Scan
from ...files.counted import counted
from ..losses.labeled import LabeledClasses
from ..options.train import TrainConfig
from ..run.log import Log
from .kept_classes import Kept, Scans


@dataclass(frozen=True)
class Samples:
    """What the loaders draw.  scans: of train and val; the records are images, or tiles.  tiles:
    where these lie, None for images.  border, labeled: as in Kept, for these records."""

    scans: Scans
    tiles: tuple[Tiles | None, Tiles | None]
    border: int | None
    labeled: LabeledClasses | None


def samples_of(config: TrainConfig, kept: Kept, log: Log) -> Samples:
    """The images of the run, or with ``tile=`` their tiles: all of val; of train those with an
    object, and some of the others."""
    if not config.tile:
        return Samples(kept.scans, (None, None), kept.border, kept.labeled)
    tiling = Tiling(config.tile, config.overlap or DEFAULT_OVERLAP)
    train, tiles = _cut(kept.scans[0], tiling)
    val, val_tiles = _cut(kept.scans[1], tiling)
    chosen = sample_empty(train.records, config.empty_tiles, config.seed)
    used = [train.records[number] for number in chosen.tolist()]
    filled = sum(len(record.labels) > 0 for record in used)
    log.info(
        f"{tiling.line(len(used), len(kept.scans[0].records))} to train on, {filled} with an "
        f"object; {counted(len(train.records) - len(used), 'empty tile')} left out"
    )
    if len(train.records) == len(kept.scans[0].records):
        log.warn(f"tile={tiling.side} changes nothing: no training image is larger")
    tiles = tiles.only(chosen)
    border, labeled = kept.border, kept.labeled
    if border is not None:
        border = int(np.searchsorted(tiles.owners, border))
        labeled = labeled and replace(labeled, replayed=border)
    return Samples((_with(train, used, tiles), val), (tiles, val_tiles), border, labeled)


def _cut(scan: Scan, tiling: Tiling) -> tuple[Scan, Tiles]:
    records, tiles = cut(scan.records, tiling)
    return _with(scan, records, tiles), tiles


def _with(scan: Scan, records: list[Record], tiles: Tiles) -> Scan:
    """The scan of tiles; its fingerprint, which names the cache of the pixels, says which."""
    which = tiles.places.tobytes() + tiles.owners.tobytes()
    digest = hashlib.sha256(scan.fingerprint.encode() + which).hexdigest()
    return replace(scan, records=records, fingerprint=digest)
