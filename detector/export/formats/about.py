"""What an exported file says about itself: enough to use it without the checkpoint.

Every format can hold pairs of texts; ``About`` is written as such pairs, each value JSON.  Someone
with another program reads ``names``, ``image_size``, ``letterbox`` and so on; det reads all of it
back.  No path and no host name is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ....weights.checkpoint import Meta
from ...options.formats import ExportError

SCHEMA = 1
MARK = "det_schema"
"""The pair that says: this was written by det."""


@dataclass(frozen=True)
class About:
    """Facts of one file.

    image_size: (height, width), fixed or, where ``dynamic``, the usual one; then sides may be
    multiples of ``stride`` from ``smallest_side`` on.  batch: images at once where fixed.
    input: ``float32`` (0..1) or ``uint8`` (0..255), always RGB [B,3,H,W].  letterbox, pad: where an
    image lies in the input (center, top-left), and the grey around it.  output: ``detections`` or
    ``raw``.  head: the branch it reads; nms: NMS is inside.  device: kind of device that it was
    written on; one in fp16 for a GPU runs there only.  checkpoint: Meta of what was exported.
    """

    format: str
    precision: str
    model: str
    names: tuple[str, ...]
    image_size: tuple[int, int]
    batch: int
    dynamic: bool
    stride: int
    smallest_side: int
    input: str
    letterbox: str
    pad: int
    output: str
    head: str
    nms: bool
    max_det: int
    device: str
    licence: str
    provenance: str
    det_version: str
    checkpoint: dict[str, Any]
    det_schema: int = SCHEMA

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def meta(self) -> Meta:
        """What the checkpoint said about itself."""
        return Meta.from_dict(self.checkpoint, Path(self.model))

    def texts(self) -> dict[str, str]:
        """Name -> JSON, of every field."""
        return {name: json.dumps(value) for name, value in asdict(self).items()}

    @staticmethod
    def from_texts(texts: Mapping[str, str], path: Path) -> About:
        """Read ``texts`` back.  Raises ExportError where they are not those of an export of det."""
        if MARK not in texts:
            raise ExportError(
                f"{path} was not written by det export: its metadata has no {MARK}; "
                "export it again from the checkpoint"
            )
        try:
            schema = json.loads(texts[MARK])
            if schema > SCHEMA:
                raise ExportError(
                    f"{path} has export schema {schema}, this version reads up to {SCHEMA}: "
                    "update yolodet"
                )
            values = {f.name: json.loads(texts[f.name]) for f in fields(About)}
            values["names"] = tuple(values["names"])
            values["image_size"] = tuple(values["image_size"])
            return About(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{path} is damaged: its metadata is incomplete ({error})") from error


FIELDS = tuple(f.name for f in fields(About))
"""Names of the pairs."""
