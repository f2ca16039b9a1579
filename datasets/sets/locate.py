"""From what the user typed after ``data=`` to folders that exist: a Dataset.

1. the word becomes a YAML (a path, a folder that holds one, or a built-in name);
2. the YAML is read and checked (description.py);
3. its folders are looked for: beside the YAML, in the current folder, in DET_DATASETS, in the
   cache folder; what is on disk is used without asking the network;
4. otherwise the YAML's archive is downloaded; if that fails and the YAML names a stand-in, the
   stand-in is used under its own name, with a warning.

This is the only file that reads DET_DATASETS (folders that hold data sets) from the environment.
Nothing heavy is imported, so that a command can check its data set before it loads torch.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ...files.archive import extract_zip
from ...files.download import DownloadError, Progress, check_url, download_file
from ...files.folders import cache_folder
from ...files.text import without_secrets
from ..formats.reader import find_reader
from .by_content import open_by_content
from .dataset import Dataset, DatasetError
from .description import Description, Message, read_description
from .finding import Finding
from .listing import is_image_source
from .public_names import hint_for
from .rename import rename
from .source import DataSource, as_source

__all__ = [
    "Dataset", "DatasetError", "cache_folder", "dataset_folders", "find_yaml", "load_dataset",
]  # fmt: skip

BUILT_IN = Path(__file__).parent
NEEDED = ("train", "val")
"""Splits whose files must exist where the YAML names them; a test split may be absent."""
WAIT_SECONDS = 5.0
"""How long to wait for a server before the stand-in is taken."""
UNPACKED = 4
"""An archive may unpack to this many times its download limit."""


def dataset_folders() -> list[Path]:
    """The folders in DET_DATASETS, separated as in PATH."""
    words = os.environ.get("DET_DATASETS", "").split(os.pathsep)
    return [Path(os.path.abspath(os.path.expanduser(word))) for word in words if word]


def load_dataset(
    data: str | Path | DataSource,
    *,
    download: bool = True,
    on_message: Message | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
    """Find, and where needed fetch or draw, the data set that ``data`` names.

    data: a YAML, a folder, a COCO JSON or a built-in name (coco8, shapes.yaml); a folder without a
    YAML is read by what lies in it.  A DataSource also says images=, val= and names=.  download:
    allow the network where the files are not on disk.  on_message: takes remarks and
    warnings.  on_progress: (done, total) in bytes while downloading, in images while drawing.
    Raises DatasetError, and DownloadError if the archive cannot be downloaded.
    """
    say = on_message or _silent
    source = as_source(data)
    found = _named(source, download, say, on_progress)
    if source.names is None or found.class_names == source.listed_names:
        return found
    return rename(found, source.names, say)


def _named(
    source: DataSource, download: bool, say: Message, on_progress: Progress | None
) -> Dataset:
    """The data set with the classes that it has on disk."""
    by_content = open_by_content(source, say)
    if by_content is not None:
        return by_content
    description = read_description(find_yaml(source.data), say)
    if source.val is not None:  # another val need not exist
        entries = {name: some for name, some in description.entries.items() if name != "val"}
        description = replace(description, entries=entries or description.entries)
    return source.applied(_described(description, download, say, on_progress))


def _described(
    description: Description, download: bool, say: Message, on_progress: Progress | None
) -> Dataset:
    """The data set of a YAML."""
    if description.shapes is not None:
        return _drawn(description, say, on_progress)
    found = locate(description, say)
    if found is not None:
        return found
    if description.download is None:
        return _without_val(description, say)
    try:
        _fetch(description, download, say, on_progress)
    except DownloadError as error:
        if description.stand_in is None:
            raise DownloadError(f"{_not_found(description)}; {error}") from error
        return _stand_in(description, str(error), say, on_progress)
    found = locate(description, say)
    if found is None:
        raise DatasetError(f"{description.download} holds other folders: {_not_found(description)}")
    return found


def _without_val(description: Description, say: Message) -> Dataset:
    """The data set of a YAML whose val is not on disk: a training stops, the other commands use
    what is there.  Raises DatasetError where train is missing too."""
    why = _not_found(description)
    entries = {name: some for name, some in description.entries.items() if name != "val"}
    found = None
    if "train" in entries and len(entries) < len(description.entries):
        found = locate(replace(description, entries=entries), say)
    if found is None:
        raise DatasetError(why)
    return replace(found, missing={"val": why})


def _silent(text: str) -> None:
    """Ignores remarks."""


def _built_in_names() -> list[str]:
    return sorted(path.name for path in BUILT_IN.glob("*.yaml"))


def is_built_in(data: str) -> bool:
    """Whether the word names a data set of det, and not a file or folder of the user."""
    try:
        return find_yaml(data).parent == BUILT_IN
    except DatasetError:
        return False


def find_yaml(data: str) -> Path:
    """The YAML that a word names; the current folder goes before the built-in ones.

    data: a path, a folder that holds one YAML, or a built-in name.  Raises DatasetError.
    """
    if not data.strip():
        raise DatasetError("data is empty; expected a data set's YAML, or coco8.yaml")
    given = Path(os.path.abspath(os.path.expanduser(data)))
    name = data if data.endswith((".yaml", ".yml")) else f"{data}.yaml"
    built_in = BUILT_IN / name if name in _built_in_names() else None
    if os.path.isfile(given):
        if given.suffix not in (".yaml", ".yml"):
            raise DatasetError(f"data: {given} is not a YAML file; its name must end in .yaml")
        return given
    if os.path.isfile(beside := given.with_name(given.name + ".yaml")):
        return beside
    if os.path.isdir(given):
        inside = sorted((*given.glob("*.yaml"), *given.glob("*.yml")))
        if len(inside) == 1:
            return inside[0]
        if built_in is None:
            raise DatasetError(f"data: the folder {given} {_which_yaml(inside)}")
    if built_in is not None:
        return built_in
    names = _built_in_names()
    known = f"built in are {', '.join(names)}{hint_for(name, names)}"
    raise DatasetError(f"data: {given} does not exist; {known}")


def _which_yaml(inside: list[Path]) -> str:
    """What is wrong with a folder that holds these YAMLs, and how to fix it."""
    if inside:
        found = ", ".join(path.name for path in inside)
        return f"must hold one YAML; found {found}: name one of them"
    lines = "train: images/train, val: images/val and names: [cat, dog]"
    return f"must hold one YAML; found none: write data.yaml there, with the lines {lines}"


def _downloads() -> Path:
    return cache_folder() / "datasets"


def _archive_folder(description: Description) -> Path:
    """Where the archive of a description is unpacked: another address is another folder."""
    url = description.download or ""
    name = Path(urllib.parse.urlsplit(url).path).stem
    return _downloads() / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _roots(description: Description) -> Iterator[Path]:
    """Every folder that may be the data set's root, best first."""
    path = os.path.expanduser(description.path)
    if _is_absolute(path):
        yield Path(path)
        yield from _beside(description)
    else:
        beside = [] if description.yaml.parent == BUILT_IN else [description.yaml.parent]
        for base in (*beside, Path.cwd(), *dataset_folders(), _downloads()):
            yield Path(os.path.normpath(base / path))
    if _is_archive(description.download):
        unpacked = _archive_folder(description)
        yield unpacked
        if os.path.isdir(unpacked):  # most archives hold one folder with everything in it
            yield from sorted(child for child in unpacked.iterdir() if child.is_dir())


def _entry_path(root: Path, entry: str) -> Path | None:
    """Where an entry of a split is under ``root``, or None.

    Some exporters write ``../train/images`` for a folder beside the YAML: without its dots, too.
    """
    entry = os.path.expanduser(entry)
    plain = entry
    while plain.startswith("../"):
        plain = plain.removeprefix("../")
    for candidate in dict.fromkeys((entry, plain)):
        place = os.path.normpath(root / candidate)
        if os.path.exists(place):
            return Path(place)
    return None


def _is_absolute(path: str) -> bool:
    return os.path.isabs(path) or bool(PureWindowsPath(path).drive)


def _beside(description: Description) -> tuple[Path, Path]:
    """Where the data may be if an absolute path is one of another machine."""
    folder = description.yaml.parent
    return folder, folder / PureWindowsPath(description.path).name  # knows both kinds of slashes


def locate(description: Description, say: Message) -> Dataset | None:
    """The data set under the first root that holds all of train and val, or None."""
    for root in dict.fromkeys(_roots(description)):
        splits = {
            split: [_entry_path(root, entry) for entry in entries]
            for split, entries in description.entries.items()
        }
        missing = [split for split, places in splits.items() if None in places]
        if any(split in NEEDED for split in missing) or len(missing) == len(splits):
            continue
        for split in missing:
            say(f"{description.yaml}: {split}: not found under {root}; left out")
        whole = {split: places for split, places in splits.items() if split not in missing}
        return replace(
            _dataset(description, root, whole), findings=_root_findings(description, root, say)
        )
    return None


def _root_findings(description: Description, root: Path, say: Message) -> tuple[Finding, ...]:
    """A warning where the path of the YAML is one of another machine."""
    path = os.path.expanduser(description.path)
    if not _is_absolute(path) or root == Path(path) or root not in _beside(description):
        return ()
    message = f"path: {description.path} does not hold the data set; {root} does and is used"
    say(f"{description.yaml}: {message}")
    return (Finding("path-elsewhere", "warning", description.yaml, 0, message),)


def _dataset(description: Description, root: Path, splits: dict[str, list[Path | None]]) -> Dataset:
    checked: dict[str, list[Path]] = {}
    for split, places in splits.items():
        checked[split] = [place for place in places if place is not None]
        for place in checked[split]:
            if not is_image_source(place) and not find_reader(description.format).accepts(place):
                wanted = "a folder of images, an image or a .txt file that lists images"
                raise DatasetError(f"{description.yaml}: {split}: {place} is not {wanted}")
    found = Dataset(
        name=description.name,
        class_names=description.class_names,
        splits=checked,
        root=root,
        yaml=description.yaml,
        license=description.license,
        format=description.format,
        options=description.options,
    )
    if found.class_names:
        return found
    return replace(found, class_names=find_reader(found.format).class_names(found))


def _not_found(description: Description) -> str:
    """One line: the entry that is missing where most is there, and every place tried for it."""
    roots = list(dict.fromkeys(_roots(description)))
    every = [(split, entry) for split, some in description.entries.items() for entry in some]
    wanted = [pair for pair in every if pair[0] in NEEDED] or every
    gaps = [[pair for pair in wanted if _entry_path(root, pair[1]) is None] for root in roots]
    split, entry = min(gaps, key=len)[0]
    places = dict.fromkeys(os.path.normpath(root / os.path.expanduser(entry)) for root in roots)
    elsewhere = ""
    path = os.path.expanduser(description.path)
    if _is_absolute(path) and not os.path.isdir(path):
        elsewhere = (
            f"path: {description.path!r} is a folder of another machine: remove the line path: and "
            "put the YAML beside the folders it names; "
        )
    return (
        f"{description.yaml}: {elsewhere}{split}: {entry!r} was not found; "
        f"looked for {', '.join(places)} (fix 'path', or set "
        f"DET_DATASETS to the folder that holds the data set)"
    )


def _is_archive(text: str | None) -> bool:
    """Whether a ``download`` is the address of a zip, and not a script or a file's name."""
    if text is None or len(text.split()) != 1 or "://" not in text:
        return False
    try:
        return urllib.parse.urlsplit(text).path.endswith(".zip")
    except ValueError:
        return False


def _fetch(
    description: Description, allowed: bool, say: Message, on_progress: Progress | None
) -> None:
    """Download and unpack the archive of a description; raises DownloadError or DatasetError."""
    url = description.download or ""
    if not _is_archive(url):
        shown = without_secrets(url.strip().splitlines()[0])[:60] if url.strip() else ""
        raise DatasetError(
            f"{_not_found(description)}; and download: {shown!r} is not the address of a .zip file:"
            f" scripts are never run, download the data yourself"
        )
    check_url(url)
    if not allowed:
        raise DownloadError("downloads are off (download=False)")
    folder = _archive_folder(description)
    if folder.is_dir():  # unpacked before, and what is looked for is not in it
        return
    archive = folder.with_name(f".{folder.name}.zip")
    license = f"; license: {description.license}" if description.license else ""
    say(f"downloading {url} into {folder}{license}")
    limit = description.download_limit
    try:
        download_file(
            url,
            archive,
            limit_bytes=limit,
            sha256=description.download_sha256,
            timeout=WAIT_SECONDS,
            on_progress=on_progress,
        )
        extract_zip(archive, folder, limit_bytes=limit * UNPACKED)
    except DownloadError:
        if not folder.is_dir():  # unless another process was faster
            raise
    finally:  # an incomplete download is another file, which the next call continues
        archive.unlink(missing_ok=True)


def _stand_in(
    description: Description, reason: str, say: Message, on_progress: Progress | None
) -> Dataset:
    yaml = BUILT_IN / f"{description.stand_in}.yaml"
    stand_in = load_dataset(yaml, download=False, on_message=say, on_progress=on_progress)
    name = f"{stand_in.name}-as-{description.name}"
    say(
        f"WARNING: {description.name} is not on disk and could not be downloaded: {reason}. "
        f"Continuing with the stand-in {name}: {stand_in.num_classes} classes of drawn objects. "
        f"Its results are NOT results of {description.name}. For the real one put the folder "
        f"{description.path or description.name} here or into a folder named by DET_DATASETS."
    )
    return replace(stand_in, name=name, stand_in=description.name)


def _drawn(description: Description, say: Message, on_progress: Progress | None) -> Dataset:
    """The drawn data set of a description, from the cache folder or drawn into it now."""
    # The only late import: drawing needs OpenCV, and checking a command must not wait for that.
    from ..drawn.shapes import SHAPES_VERSION, write_shapes

    numbers = description.shapes or {}
    easy = bool(numbers.get("easy"))
    words = "-".join(f"{key}{value}" for key, value in numbers.items() if key != "easy" or value)
    folder = _downloads() / f"shapes-v{SHAPES_VERSION}-{words}"
    if not (folder / "data.yaml").is_file():
        say(f"drawing {description.name} into {folder}")
        try:
            counts = {key: number for key, number in numbers.items() if key != "easy"}
            write_shapes(folder, **counts, easy=easy, on_progress=on_progress)
        except OSError as error:
            if not (folder / "data.yaml").is_file():  # unless another process was faster
                raise DatasetError(
                    f"{folder} cannot be written: {error.strerror}; set DET_CACHE to a folder"
                ) from error
    files = read_description(folder / "data.yaml", say)
    splits = {
        split: [_entry_path(folder, entry) for entry in entries]
        for split, entries in files.entries.items()
    }
    drawn = replace(description, class_names=files.class_names)
    return _dataset(drawn, folder, splits)
