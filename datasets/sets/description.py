"""A data set's YAML, read and checked, before its folders are looked for.

The keys are those of the field (path, train, val, test, names, nc, download) and a few of ours.
Every value is checked here; an error names the file, the key, what was found and what was expected.
A key that looks like a misspelling of a known one is an error; other unknown keys belong to the
label format or to other tools, which are only mentioned.  Nothing in a YAML is ever executed: a
script under ``download`` is kept as text and refused where it would be needed.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files.yaml_text import YamlError, read_yaml
from ..formats.reader import DEFAULT, check_format, find_reader
from .dataset import DatasetError
from .families import image_folders, short
from .survey import look
from .yaml_slips import find_slip

Message = Callable[[str], None]

SPLITS = ("train", "val", "test")
ALIASES = {"validation": "val", "licence": "license"}
SLIPS_OF = ("path", *SPLITS, "validation", "names", "nc", "channels", "download", "format")
"""Known keys that matter enough for a misspelling to be an error."""
KNOWN = {*SLIPS_OF, *ALIASES, "license", "download_sha256", "download_limit", "stand_in", "shapes"}
DRAWN = {"train": 64, "val": 16, "test": 0, "size": 640, "seed": 0, "easy": 0}
"""What ``shapes:`` may ask for, and its defaults."""
MAX_DRAWN = 200_000
MAX_DRAWN_SIZE = 4096
MAX_DRAWN_PIXELS = 100_000 * 640**2
"""About 10 GB of JPEG."""
DOWNLOAD_LIMIT = 64 << 30
MAX_CLASSES = 100_000
PLAIN_NAMES = ("data", "dataset", "_data")
"""File names that are too general: the data set is then named after its folder."""


@dataclass(frozen=True)
class Description:
    """A checked YAML.

    entries: split -> sources as written.  class_names: empty where the label format says them.
    shapes: a drawn set's numbers.  options: values of the keys that only the format reads.
    """

    yaml: Path
    name: str
    path: str
    entries: dict[str, list[str]]
    class_names: tuple[str, ...]
    download: str | None
    download_sha256: str | None
    download_limit: int
    stand_in: str | None
    license: str | None
    shapes: dict[str, int] | None
    format: str = DEFAULT
    options: dict[str, Any] = field(default_factory=dict)


def read_description(path: Path, say: Message) -> Description:
    """Read and check the YAML at ``path``; raises DatasetError.  say: takes remarks."""
    values, foreign = _checked_keys(path, _read_yaml(path))
    format = _text(path, values, "format") or DEFAULT
    options = _format_options(path, format, foreign, say)
    shapes = _shapes(path, values)
    entries = {split: _entries(path, split, values[split]) for split in SPLITS if split in values}
    if shapes is None and not entries:
        entries = _entries_by_content(path, _text(path, values, "path") or "", say)
    _check_channels(path, values)
    return Description(
        yaml=path,
        name=path.parent.name if path.stem in PLAIN_NAMES else path.stem,
        path=_text(path, values, "path") or "",
        entries=entries,
        class_names=() if shapes is not None else _class_names(path, values, say),
        download=_text(path, values, "download"),
        download_sha256=_text(path, values, "download_sha256"),
        download_limit=_whole(path, "download_limit", values.get("download_limit", DOWNLOAD_LIMIT)),
        stand_in=_text(path, values, "stand_in"),
        license=_text(path, values, "license"),
        shapes=shapes,
        format=format,
        options=options,
    )


def _entries_by_content(path: Path, root: str, say: Message) -> dict[str, list[str]]:
    """The splits of a YAML that names none, as some tools write it: by the names of the folders
    of images below it.  Raises DatasetError where there is none."""
    place = path.parent / root
    folders = image_folders(place, look(place)) if place.is_dir() else {}
    if not folders:
        raise DatasetError(f"{path}: train and val are missing: name the folders of images")
    found = {split: [short(one, place) for one in some] for split, some in folders.items()}
    listed = "; ".join(f"{split}: {', '.join(some)}" for split, some in found.items())
    say(f"{path}: names no train and no val; by the names of the folders: {listed}")
    return found


def _format_options(
    path: Path, format: str, foreign: dict[str, Any], say: Message
) -> dict[str, Any]:
    """The foreign keys that the label format reads; the others are mentioned."""
    try:
        check_format(format)
    except DatasetError as error:
        raise DatasetError(f"{path}: format: {error}") from None
    keys = find_reader(format).keys if foreign else ()
    unused = [key for key in foreign if key not in keys]
    if unused:
        say(f"{path}: keys that det does not use: {', '.join(unused)}")
    return {key: value for key, value in foreign.items() if key in keys}


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        values = read_yaml(path)
    except YamlError as error:
        raise DatasetError(find_slip(path) or str(error)) from error
    if not isinstance(values, dict):
        if isinstance(values, str) and (slip := find_slip(path)) is not None:
            raise DatasetError(slip)
        raise DatasetError(f"{path}: expected keys such as 'train: images/train', {_found(values)}")
    return values


def _checked_keys(path: Path, raw: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The known keys under their own names, without those that are left empty; foreign keys."""
    values: dict[str, Any] = {}
    foreign: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in KNOWN:
            _refuse_slip(path, str(key), raw)
            foreign[str(key)] = value
        elif value is not None:
            name = ALIASES.get(key, key)
            if name in values:
                raise DatasetError(f"{path}: {key} and its alias are both given; keep one")
            values[name] = value
    return values, foreign


def _refuse_slip(path: Path, key: str, raw: dict[Any, Any]) -> None:
    """Raise if an unknown key is a misspelling of a known key that is absent."""
    word = key.lower()
    anagrams = [known for known in SLIPS_OF if sorted(known) == sorted(word)]
    meant = anagrams or difflib.get_close_matches(word, SLIPS_OF, n=1, cutoff=0.8)
    if meant and meant[0] not in raw:
        raise DatasetError(f"{path}: unknown key {key!r}; did you mean {meant[0]!r}?")


def _found(value: Any) -> str:
    """The tail of a message: what was found, cut where it is long."""
    whole = {type(None): "found nothing", dict: "found a mapping", list: "found a list"}
    if type(value) in whole:
        return whole[type(value)]
    kind = "the text" if isinstance(value, str) else type(value).__name__
    return f"found {kind} {str(value)[:40]!r}"


def _text(path: Path, values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise DatasetError(f"{path}: {key}: expected text, {_found(value)}")
    return value


def _whole(path: Path, key: str, value: Any, low: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        wanted = f"a whole number of {low} or more"
        raise DatasetError(f"{path}: {key}: expected {wanted}, {_found(value)}")
    return value


def _entries(path: Path, split: str, value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            wanted = "a folder, a list file or a list of them"
            raise DatasetError(f"{path}: {split}: expected {wanted}, {_found(entry)}")
    if not entries:
        raise DatasetError(f"{path}: {split}: the list is empty; name a folder of images")
    return entries


def _check_channels(path: Path, values: dict[str, Any]) -> None:
    channels = values.get("channels", 3)
    if _whole(path, "channels", channels) != 3:
        raise DatasetError(f"{path}: channels: {channels} is not supported; images are read as RGB")


def _class_names(path: Path, values: dict[str, Any], say: Message) -> tuple[str, ...]:
    """From names, else class_0, class_1, ... from nc, else none if the format can say them."""
    count = _whole(path, "nc", values["nc"]) if "nc" in values else None
    if count is not None and count > MAX_CLASSES:
        raise DatasetError(f"{path}: nc: {count} classes are over the limit of {MAX_CLASSES}")
    if "names" not in values:
        if count is None and values.get("format", DEFAULT) != DEFAULT:
            return ()
        if count is None:
            raise DatasetError(f"{path}: names is missing: list the class names in order")
        return tuple(f"class_{number}" for number in range(count))
    names = _name_list(path, values["names"])
    if count is not None and count != len(names):
        raise DatasetError(f"{path}: nc is {count} but names has {len(names)}; fix one of them")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        say(f"{path}: names: several classes are called {', '.join(twice)}")
    return names


def _name_list(path: Path, value: Any) -> tuple[str, ...]:
    if value in ([], {}):
        raise DatasetError(f"{path}: names is empty: list the class names in order")
    if isinstance(value, dict):
        if value.keys() != set(range(len(value))) or any(isinstance(key, bool) for key in value):
            wanted = f"the keys 0..{len(value) - 1} without gaps"
            keys = ", ".join(map(str, list(value)[:5]))
            raise DatasetError(f"{path}: names: expected {wanted}, found {keys}")
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list):
        raise DatasetError(f"{path}: names: expected a list of class names, {_found(value)}")
    return tuple(_class_name(path, number, name) for number, name in enumerate(value))


def _class_name(path: Path, number: int, name: Any) -> str:
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)  # data sets of digits name their classes 0, 1, 2
    if not isinstance(name, str) or not name.strip():
        # YAML reads no, yes, on, off and null as something else than words
        raise DatasetError(
            f"{path}: names: class {number}: expected a name, {_found(name)}; put it in quotes"
        )
    return name.strip()


def _shapes(path: Path, values: dict[str, Any]) -> dict[str, int] | None:
    """The numbers of a drawn data set, or None where the YAML describes files."""
    if "shapes" not in values:
        return None
    asked = values["shapes"]
    if not isinstance(asked, dict) or not asked.keys() <= DRAWN.keys():
        wanted = f"numbers under {', '.join(DRAWN)}"
        found = f"found {', '.join(map(str, asked))}" if isinstance(asked, dict) else _found(asked)
        raise DatasetError(f"{path}: shapes: expected {wanted}, {found}")
    clash = [key for key in ("path", *SPLITS, "names", "nc", "download") if key in values]
    if clash:
        raise DatasetError(f"{path}: shapes and {clash[0]} exclude each other; remove one")
    lows = {"train": 1, "val": 1, "size": 64}
    numbers = {
        key: _whole(path, f"shapes: {key}", asked.get(key, default), lows.get(key, 0))
        for key, default in DRAWN.items()
    }
    _refuse_too_many(path, numbers)
    return numbers


def _refuse_too_many(path: Path, numbers: dict[str, int]) -> None:
    """Raise DatasetError where drawing would fill the disk: a typing error, or not our file."""
    images = sum(numbers[split] for split in SPLITS)
    for what, number, limit in (
        ("images", images, MAX_DRAWN),
        ("size", numbers["size"], MAX_DRAWN_SIZE),
        ("pixels", images * numbers["size"] ** 2, MAX_DRAWN_PIXELS),
    ):
        if number > limit:
            raise DatasetError(
                f"{path}: shapes: {what}: {_short(number)} is over the limit of {limit:,}"
            )


def _short(number: int) -> str:
    return f"{number:,}" if number < 10**18 else f"a number of {len(str(number))} digits"
