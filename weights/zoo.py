"""Pretrained weights that can be downloaded.

Only weights with a permissive license are listed.  Others would have to be accepted by name
(``check_license``).  Numbers are as published.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..files.errors import InputError

PERMISSIVE = ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT")
"""SPDX names of licenses that require only a notice."""

_YOLOV9 = "https://github.com/MultimediaTechLab/YOLO/releases/download/v1.0-alpha/"
_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"


class LicenseError(InputError):
    """The license of these weights must be accepted first."""


@dataclass(frozen=True)
class ZooEntry:
    """One set of weights.

    name: of the model that it is for.  file: as published, behind ``base``.  image_size: side of
    the input in pixels.  ap: COCO val, 0.50:0.95, as published.  parameters: millions, and gflops
    at ``image_size`` (2 per multiply-add), as published for the deployed model.  project: who
    published it.  sha256: of the file, None where the publisher states none.
    """

    name: str
    base: str
    file: str
    image_size: int
    ap: float
    parameters: float
    gflops: float
    license: str
    project: str
    trained_on: str = "COCO 2017"
    task: str = "detect"
    sha256: str | None = None

    @property
    def url(self) -> str:
        return self.base + self.file

    @property
    def license_text(self) -> str:
        """Address of the license with its notice, which copies of the weights must carry."""
        return f"https://github.com/{self.project}/blob/main/LICENSE"


def _yolov9(size: str, ap: float, cost: tuple[float, float]) -> ZooEntry:
    """cost: parameters in millions, GFLOPs."""
    project = "MultimediaTechLab/YOLO"
    return ZooEntry(f"yolov9{size}", _YOLOV9, f"v9-{size}.pt", 640, ap, *cost, "MIT", project)


def _yolox(size: str, image_size: int, ap: float, cost: tuple[float, float]) -> ZooEntry:
    name, project = f"yolox_{size}", "Megvii-BaseDetection/YOLOX"
    return ZooEntry(name, _YOLOX, f"{name}.pth", image_size, ap, *cost, "Apache-2.0", project)


ZOO: dict[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        _yolov9("t", 38.3, (2.0, 7.7)),
        _yolov9("s", 46.8, (7.1, 26.4)),
        _yolov9("m", 51.4, (20.0, 76.3)),
        _yolov9("c", 53.0, (25.3, 102.1)),
        _yolox("nano", 416, 25.8, (0.91, 1.08)),
        _yolox("tiny", 416, 32.8, (5.06, 6.45)),
        _yolox("s", 640, 40.5, (9.0, 26.8)),
        _yolox("m", 640, 46.9, (25.3, 73.8)),
        _yolox("l", 640, 49.7, (54.2, 155.6)),
        _yolox("x", 640, 51.1, (99.1, 281.9)),
    )
}
"""Model name -> weights."""


def check_license(entry: ZooEntry, accepted: str | None) -> None:
    """Raise LicenseError unless the license is permissive or ``accepted`` by name."""
    if entry.license in PERMISSIVE or entry.license == accepted:
        return
    raise LicenseError(
        f"the weights of {entry.name} ({entry.project}) are under {entry.license}, which also binds"
        f" what you make of them: accept it with accept_license={entry.license}"
    )


def license_notice(name: str, license: str, provenance: str) -> str | None:
    """A warning for weights under this license; None if it is permissive."""
    if license in PERMISSIVE:
        return None
    return (
        f"{name} is under {license} ({provenance}): this license also binds models that are trained"
        " from it and services that use it"
    )
