"""The YAML of a data set: what is refused with which words, and what is forgiven."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_data import OK, describe, make_folders
from rows import each
from yolodet.datasets.sets.locate import DatasetError, load_dataset

pytestmark = pytest.mark.usefixtures("place")


BAD_YAML = [
    ("", "expected keys such as 'train: images/train', found nothing"),
    ("just words", "expected keys such as 'train: images/train', found the text 'just words'"),
    ("[1, 2]", "expected keys such as 'train: images/train', found a list"),
    ("names: [a]", "train and val are missing: name the folders of images"),
    ("train: a\nval: b", "names is missing: list the class names in order"),
    (OK + "train: c\n", "4:1: is not valid YAML: the key 'train' occurs twice"),
    ("train: [a\nval: b: c", "2:4: is not valid YAML: expected ',' or ']'"),
    ("train: a\n\tval: b", ":2: a tab at the beginning of the line"),
    ("names: !!python/name:os.system x", "1:8: is not valid YAML: could not determine"),
    ("train: \x07", "is not valid YAML: unacceptable character"),
    ("trian: a\nval: b\nnames: [a]", "unknown key 'trian'; did you mean 'train'?"),
    ("Train: a\nval: b\nnames: [a]", "unknown key 'Train'; did you mean 'train'?"),
    ("train: a\nvalidaton: b\nnames: [a]", "'validaton'; did you mean 'validation'?"),
    ("train: a\nval: b\nname: [a]", "unknown key 'name'; did you mean 'names'?"),
    ("paht: x\ntrain: a\nval: b\nnames: [a]", "unknown key 'paht'; did you mean 'path'?"),
    (OK + "dowload: x", "unknown key 'dowload'; did you mean 'download'?"),
    (OK + "validation: b", "validation and its alias are both given; keep one"),
    (OK + "path: 5", "path: expected text, found int '5'"),
    ("train: 3\nnames: [a]", "train: expected a folder, a list file or a list of them, found int"),
    ("train: [a, {b: c}]\nnames: [a]", "train: expected a folder, a list file or a list of them"),
    ("train: []\nnames: [a]", "train: the list is empty; name a folder of images"),
    ("train: a\nnames: cat", "names: expected a list of class names, found the text 'cat'"),
    ("train: a\nnames: []", "names is empty: list the class names in order"),
    ("train: a\nnames: {}", "names is empty: list the class names in order"),
    ("train: a\nnames: {1: a, 2: b}", "names: expected the keys 0..1 without gaps, found 1, 2"),
    ("train: a\nnames: {0: a, 2: b}", "names: expected the keys 0..1 without gaps, found 0, 2"),
    ("train: a\nnames: {a: 0}", "names: expected the keys 0..0 without gaps, found a"),
    ("train: a\nnames: [yes, b]", "names: class 0: expected a name, found bool 'True'; put it in"),
    ("train: a\nnames: [a, ~]", "names: class 1: expected a name, found nothing; put it in quotes"),
    ("train: a\nnames: [1.10]", "names: class 0: expected a name, found float '1.1'; put it in"),
    ("train: a\nnames: [' ']", "names: class 0: expected a name, found the text ' '"),
    (OK + "nc: 3", "nc is 3 but names has 2; fix one of them"),
    (OK + "nc: two", "nc: expected a whole number of 1 or more, found the text 'two'"),
    ("train: a\nnc: 0", "nc: expected a whole number of 1 or more, found int '0'"),
    ("train: a\nnc: true", "nc: expected a whole number of 1 or more, found bool 'True'"),
    ("train: a\nnc: 1000000000", "nc: 1000000000 classes are over the limit"),
    (OK + "format: yola", "format: unknown format 'yola'; choose from coco, createml, csv"),
    (OK + "formt: yolo", "unknown key 'formt'; did you mean 'format'?"),
    (OK + "channels: 1", "channels: 1 is not supported; images are read as RGB"),
    (OK + "download: [a]", "download: expected text, found a list"),
    ("shapes: 5", "shapes: expected numbers under train, val, test, size, seed, easy, found int"),
    ("shapes: {trian: 5}", "shapes: expected numbers under train, val, test, size, seed, easy"),
    ("shapes: {train: -5}", "shapes: train: expected a whole number of 1 or more, found int '-5'"),
    ("shapes: {train: 5}\ntrain: a", "shapes and train exclude each other; remove one"),
]


@each(("text", "message"), BAD_YAML)
def test_wrong_yaml_is_refused_with_its_place(place: Path, text: str, message: str) -> None:
    file = describe(place / "x", text)
    with pytest.raises(DatasetError) as caught:
        load_dataset(file)
    told = str(caught.value)
    assert told.startswith(str(file))
    assert message in told
    assert told.isprintable()
    assert caught.value.exit_code == 2


def test_yaml_that_is_no_text_or_not_readable(place: Path) -> None:
    (place / "x.yaml").write_bytes(b"train: \xff\xfe")
    with pytest.raises(DatasetError, match=r"is not UTF-8 text \(byte 7\)"):
        load_dataset(place / "x.yaml")
    (place / "deep.yaml").write_text("[" * 600)
    with pytest.raises(DatasetError, match="is not valid YAML"):
        load_dataset(place / "deep.yaml")


@each(
    ("text", "names"),
    [
        ("names: [cat, dog]", ("cat", "dog")),
        ("names: {1: dog, 0: cat}", ("cat", "dog")),
        ("names: ['no', \"on\"]\nnc: 2", ("no", "on")),
        ("names: [0, 1]", ("0", "1")),
        ("nc: 2", ("class_0", "class_1")),
        ("names: ['käse', 火]", ("käse", "火")),
    ],
)
def test_ways_to_name_classes(place: Path, text: str, names: tuple[str, ...]) -> None:
    make_folders(place / "x")
    file = describe(place / "x", f"\ufefftrain: images/train\nval: images/val\ntest:\n{text}\n")
    data = load_dataset(file)
    assert data.class_names == names
    assert data.num_classes == 2
    assert list(data.splits) == ["train", "val"]


def test_foreign_keys_are_mentioned_once_and_harmless(place: Path) -> None:
    make_folders(place / "x")
    heard: list[str] = []
    text = OK + "kpt_shape: [17, 3]\nminival: x\nname: mine\n5: y\nchannels: 3\n"
    load_dataset(describe(place / "x", text), on_message=heard.append)
    assert heard == [
        f"{place}/x/set.yaml: keys that det does not use: minival, name, 5"
    ]


def test_alias_and_repeated_class_names(place: Path) -> None:
    make_folders(place / "x")
    heard: list[str] = []
    text = "train: images/train\nvalidation: images/val\nnames: [a, b, a]\nlicense: free"
    data = load_dataset(describe(place / "x", text), on_message=heard.append)
    assert data.splits["val"] == [place / "x/images/val"]
    assert data.license == "free"
    assert "several classes are called a" in heard[0]
