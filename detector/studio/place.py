"""The opened folder: what lies in it, and names that must not lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...datasets.sets.by_content import open_by_content
from ...datasets.sets.dataset import DatasetError
from ...datasets.sets.listing import IMAGE_SUFFIXES
from ...datasets.sets.source import DataSource
from ...datasets.sets.survey import ANNOTATIONS, SPLIT_WORDS
from ...files.yaml_text import YamlError, read_yaml
from ..options.parse import is_data_description
from ..run.folder import BEST
from .asked import BadRequest, NotThere, Outside
from .folders import Folders

MOST_YAML_BYTES = 1 << 20
PARTS = {*SPLIT_WORDS, "images", "annotations", "jpegimages", "labels"}
"""Folders that a data set consists of."""
OPTIONS = "args.yaml"
"""What every run folder holds."""


class Place:
    """The opened folder.  root: with links resolved."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders = Folders(root)

    def inside(self, name: str) -> Path:
        """The path of a name below the folder.

        Raises Outside for an absolute path, for ``..`` and for links that lead out, and NotThere.
        """
        path = Path(name)
        if not name or "\0" in name or path.is_absolute() or ".." in path.parts or "\\" in name:
            raise Outside(f"{name}: expected a name below the opened folder")
        real = Path(os.path.realpath(self.root / path))
        if not real.is_relative_to(self.root):
            raise Outside(f"{name}: leads out of the opened folder")
        if not os.path.exists(real):
            raise NotThere(f"{name}: is not there")
        return real

    def name_of(self, path: Path) -> str:
        """The name below the folder, ``.`` for the folder itself."""
        return path.relative_to(self.root).as_posix()

    def new(self, name: str) -> Path:
        """The path of a new file or folder in an existing folder below the opened one.

        Raises Outside as ``inside`` does, and BadRequest where the name is taken.
        """
        above, _, last = name.rpartition("/")
        if not last or last in (".", "..") or "\0" in last or "\\" in last or last[0] == ".":
            raise Outside(f"{name}: expected a new name below the opened folder")
        path = (self.inside(above) if above else self.root) / last
        if os.path.lexists(path):
            raise BadRequest(f"{name}: exists; name a new folder")
        return path

    def data_sets(self) -> list[str]:
        """Names of the data sets: YAML descriptions, and folders known by their content."""
        return sorted(self.name_of(path) for path in self._data_sets())

    def checkpoints(self) -> list[str]:
        """Names of checkpoints that find objects: the best of each run, the newest first, and
        others below the folder."""
        best = [f"{name}/{BEST}" for name in self.runs() if (self.root / name / BEST).is_file()]
        others = [
            self.name_of(here / name) for here, _, names in self._folders.walk() for name in names
            if name.endswith(BEST.suffix)
        ]  # fmt: skip
        return list(dict.fromkeys([*best, *sorted(others)]))

    def runs(self) -> list[str]:
        """Names of the run folders, the newest first."""
        found = [here / OPTIONS for here, _, names in self._folders.walk() if OPTIONS in names]
        found.sort(key=lambda path: -path.stat().st_mtime)
        return [self.name_of(path.parent) for path in found]

    def _data_sets(self) -> Iterator[Path]:
        for here, folders, names in self._folders.walk():
            if OPTIONS in names:
                folders.clear()
                continue
            yamls = [here / name for name in names if name.endswith((".yaml", ".yml"))]
            described = [path for path in yamls if _describes(path)]
            yield from described
            if described:
                folders[:] = [name for name in folders if name.lower() not in PARTS]
            elif not yamls and _may_be_data(folders, names) and _known_by_content(here):
                folders.clear()
                yield here


def _describes(path: Path) -> bool:
    try:
        if path.stat().st_size > MOST_YAML_BYTES:
            return False
        content = read_yaml(path)
    except (OSError, YamlError):
        return False
    return isinstance(content, dict) and is_data_description(content)


def _may_be_data(folders: Sequence[str], names: Sequence[str]) -> bool:
    suffixes = {os.path.splitext(name)[1].lower() for name in names}
    labeled = suffixes & set(ANNOTATIONS) and suffixes & set(IMAGE_SUFFIXES)
    return bool(labeled) or any(name.lower() in PARTS for name in folders)


def _known_by_content(path: Path) -> bool:
    try:
        return open_by_content(DataSource(str(path)), lambda text: None) is not None
    except DatasetError:
        return False
