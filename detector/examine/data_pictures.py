"""Images of a data set with the boxes of their labels: by split, number, class or finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...datasets.edit.folder import new_folder
from ...datasets.edit.layout import place_records
from ...datasets.formats.record import Record
from ...datasets.scan.scan import Scan, scan_split
from ...datasets.sets.dataset import Dataset, DatasetError
from ..evaluate.figure import save_picture
from .data_stats import labeled

SIDE = 1024
"""Longer side of a picture, in pixels."""

Progress = Callable[[int, int], None]


def write_pictures(
    dataset: Dataset, out: Path, *, split: str | None = None, index: int | None = None,
    cls: str | None = None, finding: str | None = None, most: int = 100,
    on_progress: Progress | None = None,
) -> list[Path]:  # fmt: skip
    """Write pictures to a new folder, as ``SPLIT/NAME.jpg``; returns their paths.

    split, index, cls, finding: which images (all that are not None must hold).  index: in the
    sorted list of usable images of the chosen splits.  most: pictures at most.  More than six
    parameters: each is a word of the command.  Raises DatasetError where no image is chosen.
    """
    if cls is not None and cls not in dataset.class_names:
        raise DatasetError(f"cls: no class {cls!r}; there are {', '.join(dataset.class_names)}")
    wanted = None if cls is None else dataset.class_names.index(cls)
    chosen: list[tuple[str, Record]] = []
    names = [split] if split else dataset.splits
    scans = [scan_split(dataset, name, strict=False) for name in names]
    for scan in scans:
        found = None if finding is None else _named(scan, finding)
        for record in scan.records:
            with_class = wanted is None or wanted in record.labels
            if with_class and (found is None or record.path in found):
                chosen.append((scan.split, record))
    if index is not None:
        chosen = chosen[index : index + 1]
    if not chosen:
        raise DatasetError(f"{dataset.yaml}: no image is chosen{_why(scans, finding)}")
    return _write(chosen[:most], dataset.class_names, out, on_progress)


def _named(scan: Scan, finding: str) -> set[Path]:
    """Images with a finding, of themselves or of their label file."""
    about = [found.path for found in scan.findings if found.id == finding]
    stems = {path.stem for path in about if path.suffix in (".txt", ".xml")}
    paths = set(about)
    return paths | {record.path for record in scan.records if record.path.stem in stems}


def _why(scans: Sequence[Scan], finding: str | None) -> str:
    if finding is None:
        return ""
    there = sorted({found.id for scan in scans for found in scan.findings})
    return f"; findings are {', '.join(there)}" if there else "; there is no finding"


def _write(
    chosen: Sequence[tuple[str, Record]],
    names: Sequence[str],
    out: Path,
    on_progress: Progress | None,
) -> list[Path]:
    files = []
    with new_folder(out) as folder:
        for split in dict.fromkeys(split for split, _ in chosen):
            for one in place_records(split, [record for name, record in chosen if name == split]):
                picture = labeled(one.record, names, SIDE)
                if picture is None:
                    continue
                relative = Path(split, one.name.with_suffix(".jpg"))
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                save_picture(picture, folder / relative)
                files.append(out / relative)
                if on_progress is not None:
                    on_progress(len(files), len(chosen))
    return files
