"""Images without labels, though there are labels: where they lie, what they are, what to type.

Asked only where most images of a split have no annotation, so a data set that is as it should be
costs nothing.  Evidence decides: a group of annotation files counts if their names are those of the
images, or if it is a file for all of them.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..formats.reader import Reader
from ..sets.dataset import Dataset
from ..sets.finding import Finding
from ..sets.kinds import KINDS
from ..sets.survey import Group, Survey, look

OTHER_IMAGES = (".heic", ".heif", ".avif", ".jfif", ".jpe", ".gif", ".jp2", ".dng", ".cr2", ".nef",
                ".arw", ".raw", ".ppm", ".pgm", ".svg", ".psd", ".dcm", ".exr")  # fmt: skip
"""Endings of images that det does not read."""
WRONG_FORMAT, WRONG_FOLDER, WRONG_NAMES = "wrong-format", "wrong-folder", "wrong-names"


def misplaced(
    dataset: Dataset, reader: Reader, images: Sequence[str], sources: Sequence[str]
) -> Finding | None:
    """Why these images have no annotation; None where nothing was found that belongs to them.

    images: those without an annotation.  sources: where it was expected.
    """
    if reader.index_files:
        return None
    survey = look(_common(dataset, images))
    pairs = list(zip(map(Path, images), map(Path, sources), strict=True))
    own = {image.parent for image, _ in pairs}
    claimed = _claimed(survey, reader, own)
    groups = [group for group in survey.labels if group.folder not in claimed]
    best = max(groups, key=lambda group: _matches(group, pairs), default=None)
    if best is None:
        return _other_names(dataset, survey, pairs)
    for_all = best.suffix in (".json", ".csv", ".xml") and len(best.names) <= 3
    other = dataset.format not in (best.kind, KINDS[best.kind].format)
    if other and (for_all or _matches(best, pairs)):
        return _other_format(dataset, best)
    if not _matches(best, pairs):
        return _other_names(dataset, survey, pairs)
    return _other_folder(dataset, best, pairs)


def _common(dataset: Dataset, images: Sequence[str]) -> Path:
    """The folder to look in: the data set's root, where the images are below it."""
    folders = {os.path.dirname(image) for image in images}
    common = Path(os.path.commonpath(folders))
    if common.is_relative_to(dataset.root):
        return dataset.root
    return common.parent if len(common.parts) > 2 else common


def _claimed(survey: Survey, reader: Reader, own: set[Path]) -> set[Path]:
    """Folders where the annotations of images in other folders than ``own`` are looked for."""
    some = [str(folder / names[0]) for folder, names in survey.images.items() if folder not in own]
    return {Path(source).parent for source in reader.sources(some)[0]}


def _matches(group: Group, pairs: Sequence[tuple[Path, Path]]) -> int:
    """How many of the images a group has an annotation for, by their names."""
    stems = group.stems
    return sum(image.stem in stems for image, _ in pairs)


def _shown(path: Path, dataset: Dataset) -> str:
    return str(path.relative_to(dataset.root)) if path.is_relative_to(dataset.root) else str(path)


def _other_format(dataset: Dataset, group: Group) -> Finding:
    kind = KINDS[group.kind]
    count = f"{len(group.names)} files, " if len(group.names) > 1 else ""
    what = f"the labels are {kind.title} ({count}{_shown(group.first, dataset)})"
    if group.kind == "coco":
        fix = f"det reads it: det train data={shlex.quote(str(group.first))} val=0.2"
    elif kind.format and dataset.yaml.is_file():
        fix = f"det reads it: write the line format: {kind.format} into {dataset.yaml}"
    elif kind.format:
        fix = f"det reads it: write a YAML with the line format: {kind.format}"
    else:
        fix = kind.fix
    message = f"{what}, not {KINDS[dataset.format].title}; {fix}"
    return Finding(WRONG_FORMAT, "error", group.first, 0, message)


def _other_folder(dataset: Dataset, group: Group, pairs: Sequence[tuple[Path, Path]]) -> Finding:
    """YOLO labels (or VOC's) that are not where they are looked for."""
    stems = group.stems
    image, source = next(pair for pair in pairs if pair[0].stem in stems)
    expected, there = source.parent, group.folder
    if there == expected:
        message = f"label files end in {group.names[0][-4:]}, expected {source.suffix}: rename them"
        return Finding(WRONG_NAMES, "error", group.first, 0, message)
    where = f"the labels lie in {_shown(there, dataset)}/, det looks "
    where += f"in {_shown(expected, dataset)}/"
    renamed = _renamed_images(image.parent, there)
    if renamed is not None:
        old, new = renamed
        fix = f"{_move(old, new)}, and name {_shown(new, dataset)} in {dataset.yaml.name}"
        where += " because the folder of the images is not called images"
    elif expected.exists():
        files = f"{shlex.quote(str(there))}/*{group.suffix}"
        fix = f"move them: mv {files} {shlex.quote(str(expected))}"
    else:
        fix = _move(*_renamed(there, expected))
    return Finding(WRONG_FOLDER, "error", group.first, 0, f"{where}: {fix}")


def _renamed(there: Path, expected: Path) -> tuple[Path, Path]:
    """The highest folder whose new name alone puts the labels where they are expected."""
    for old, new in ((there, expected), *zip(there.parents, expected.parents, strict=False)):
        if there.relative_to(old) == expected.relative_to(new) and old.parent == new.parent:
            return old, new
    return there, expected


def _renamed_images(folder: Path, labels: Path) -> tuple[Path, Path] | None:
    """The folder of images to rename to ``images`` so that its labels are ``labels``."""
    for place, part in enumerate(folder.parts):
        changed = Path(*folder.parts[:place], "labels", *folder.parts[place + 1 :])
        if changed == labels and part != "images":
            old = Path(*folder.parts[: place + 1])
            return old, old.with_name("images")
    return None


def _move(old: Path, new: Path) -> str:
    return f"mv {shlex.quote(str(old))} {shlex.quote(str(new))}"


def _other_names(
    dataset: Dataset, survey: Survey, pairs: Sequence[tuple[Path, Path]]
) -> Finding | None:
    """Label files in the right folder under other names than those of the images."""
    names = {image.name for image, _ in pairs}
    expected = {source.parent for _, source in pairs}
    for group in survey.groups:
        if group.suffix == ".txt" and group.stems & names:
            image = sorted(group.stems & names)[0]
            fix = f"rename it to {Path(image).stem}{group.suffix}, and the others alike"
            message = f"label files carry the ending of their image: {image}{group.suffix}: {fix}"
            return Finding(WRONG_NAMES, "error", group.folder, 0, message)
    known = {os.path.splitext(name)[0] for some in survey.images.values() for name in some}
    for group in survey.labels:
        if 2 * len(group.stems - known) <= len(group.stems):
            continue
        if group.folder in expected and KINDS[group.kind].format == dataset.format:
            image = sorted(names)[0]
            message = (
                f"label files have other names than the images: {group.names[0]}, but {image}: "
                f"give both one name ({Path(image).stem}{pairs[0][1].suffix} for {image})"
            )
            return Finding(WRONG_NAMES, "error", group.folder, 0, message)
    return None


def no_images(sources: Sequence[Path]) -> str | None:
    """Why the folders of a split hold no image; None where nothing tells."""
    for source in sources:
        if not source.is_dir():
            continue
        survey = look(source)
        for group in survey.labels:
            if group.suffix == ".txt":
                return f"{source} holds labels, not images: name the folder of the images"
            title = KINDS[group.kind].title
            return f"{source} holds {title}, not images: name the folder of the images"
        endings = Counter(
            os.path.splitext(name)[1].lower() for _, _, names in os.walk(source) for name in names
        )
        for ending, count in endings.most_common():
            if ending in OTHER_IMAGES:
                return (
                    f"the {count} images in {source} end in {ending}, which det does not read: "
                    "convert them to JPEG or PNG"
                )
    return None
