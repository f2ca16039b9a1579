"""``names=``: the same data set as one whose files were rewritten, wherever data are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_data import add_image, describe
from yolodet.cli import main
from yolodet.datasets.edit.merge import merge
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import Scan, scan_split
from yolodet.datasets.sets.dataset import Dataset, DatasetError
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.rename import as_trained, rename, rename_all
from yolodet.datasets.sets.source import DataSource
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import is_data_description, parse
from yolodet.detector.options.train import TrainConfig

pytestmark = pytest.mark.usefixtures("place")
NAMES = ("person", "car", "truck", "bus")
RULES = "car,truck->vehicle,bus->coach"
ROWS = ("0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n", "2 0.5 0.5 0.4 0.4\n3 0.2 0.2 0.1 0.1\n")
BOTH = "1 0.5 0.5 0.4 0.4\n2 0.5 0.5 0.4 0.4\n"
"""One object that was annotated as car and as truck."""


def write_set(root: Path, rows: tuple[str, ...] = ROWS, names: tuple[str, ...] = NAMES) -> Path:
    for split in ("train", "val"):
        for number, row in enumerate(rows):
            add_image(root / f"images/{split}/{number}.jpg", row=row)
    listed = ", ".join(names)
    return describe(root, f"train: images/train\nval: images/val\nnames: [{listed}]\n")


def loaded(yaml: Path, names: str | None = None) -> Dataset:
    return load_dataset(DataSource(str(yaml), names=names))


def labels_of(scan: Scan) -> list[list[int]]:
    return [record.labels.tolist() for record in scan.records]


def test_classes_are_renamed_as_if_the_files_were(place: Path) -> None:
    files = write_set(place / "set")
    rewritten = tuple(row.replace("\n2 ", "\n1 ").replace("\n3 ", "\n2 ") for row in ROWS)
    wanted = write_set(
        place / "same", (rewritten[0], "1" + rewritten[1][1:]), ("person", "vehicle", "coach")
    )
    renamed, same = loaded(files, RULES), loaded(wanted)
    assert renamed.class_names == same.class_names == ("person", "vehicle", "coach")
    for _ in range(2):  # read, and from the cache
        ours, theirs = scan_split(renamed, "train"), scan_split(same, "train")
        assert labels_of(ours) == labels_of(theirs) == [[0, 1], [1, 2]]
        for a, b in zip(ours.records, theirs.records, strict=True):
            assert np.array_equal(a.boxes, b.boxes)
    assert labels_of(scan_split(loaded(files), "train")) == [[0, 1], [2, 3]]  # one cache for both


def test_a_box_of_two_merged_classes_is_one_box(place: Path) -> None:
    scan = scan_split(loaded(write_set(place / "set", (BOTH,)), RULES), "train")
    assert labels_of(scan) == [[1]]
    crowd = np.array([False, True])
    boxes = np.zeros((2, 4), np.float32)
    record = Record(Path("a.jpg"), (9, 9), boxes, np.array([0, 1]), crowd)
    assert record.renumbered(np.array([0, 0])).labels.tolist() == [0, 0]  # a crowd is another thing


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("trcuk->vehicle", "there is no class 'trcuk'; did you mean 'truck'?"),
        ("xyzzy->vehicle", "there is no class 'xyzzy'; there are person, car, truck, bus"),
        ("car,truck-", "without quotes the shell takes the > away"),
        ("car->", "expected OLD->NEW"),
        ("car->bus", "there already is a class 'bus'; to merge with it, name it too: "
                     "names='car,bus->bus'"),
        ("car->a,car->b", "'car' becomes 'a' and 'b'"),
        ("7->a", "there is no class '7'"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_one_line_that_says_how(rules: str, message: str) -> None:
    data = Dataset("set", NAMES, {}, Path(), Path("set.yaml"))
    with pytest.raises(DatasetError) as error:
        rename(data, rules)
    assert message in str(error.value)


def test_numbers_name_old_classes_and_new_classes_count_on() -> None:
    data = Dataset("set", NAMES, {}, Path(), Path("set.yaml"))
    renamed = rename(data, "0,3->other")
    assert renamed.class_names == ("other", "car", "truck")
    assert renamed.renumbering == (0, 1, 2, 0)
    swapped = rename(data, "car->truck,truck->car")
    assert swapped.class_names == ("person", "truck", "car", "bus")
    assert swapped.renumbering == (0, 1, 2, 3)


def test_a_model_sees_the_data_as_it_was_trained() -> None:
    data = Dataset("set", NAMES, {}, Path(), Path("set.yaml"))
    said: list[str] = []
    trained = rename(data, RULES)
    seen = as_trained(data, RULES, trained.class_names, said.append)
    assert seen == trained
    classes = "0 person, 1 vehicle, 2 coach"
    assert said == [f"names={RULES} of the checkpoint: the classes are now {classes}"]
    same = replace(data, class_names=trained.class_names)
    assert as_trained(same, RULES, trained.class_names, said.append) is same  # rewritten files
    other = replace(data, class_names=("cat",))
    assert as_trained(other, RULES, trained.class_names, said.append) is other
    assert as_trained(data, None, NAMES, said.append) is data
    assert as_trained(data, RULES, ("object",), said.append) == trained  # single_cls=True
    assert as_trained(trained, RULES, trained.class_names, said.append) is trained


def test_merge_makes_two_spellings_one_class(place: Path) -> None:
    row = ("0 0.5 0.5 0.2 0.2\n",)
    datasets = [
        loaded(write_set(place / "a", row, ("Cat",))), loaded(write_set(place / "b", row, ("cat",)))
    ]
    with pytest.raises(DatasetError, match="names='Cat,cat->cat'"):
        merge(datasets, place / "none", format="yolo", images="link")
    told = merge(
        rename_all(datasets, "Cat,cat->cat"), place / "both", format="yolo", images="link"
    )[0]
    assert told.class_names == ("cat",)
    with pytest.raises(DatasetError, match="did you mean 'Cat'"):
        rename_all(datasets, "Catt->cat")


@pytest.mark.parametrize("command", ["check", "convert", "split", "stats", "show", "merge"])
def test_every_data_command_takes_names(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = write_set(place / "set")
    words = [f"data={yaml},{write_set(place / 'b', names=NAMES)}" if command == "merge"
             else f"data={yaml}"]  # fmt: skip
    if command == "split":
        words += ["val=0.5", "images=link"]
    if command == "show":
        words.append("cls=vehicle")
    if command != "check":
        words.append(f"out={place / 'out'}{'.png' * (command == 'stats')}")
    code = main(["data", command, *words, f"names={RULES}", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code in (0, 1) and "result" in told, told
    if command in ("convert", "split", "merge"):
        assert loaded(place / "out/data.yaml").class_names == ("person", "vehicle", "coach")
    elif command == "show":
        assert len(told["result"]["pictures"]) == 4
    else:
        assert "vehicle" in json.dumps(told)


def test_lists_of_images_cannot_hold_new_numbers(place: Path) -> None:
    yaml = write_set(place / "set")
    words = ["data", "split", f"data={yaml}", f"out={place / 'out'}", "val=0.5"]
    assert main([*words, f"names={RULES}"]) == 2
    assert not (place / "out").exists()


def test_a_mapping_says_the_same(place: Path) -> None:
    mapping = {"car": "vehicle", "truck": "vehicle"}
    config, given = parse(TrainConfig, {"names": mapping})
    assert config.names == "car->vehicle,truck->vehicle" and given == {"names"}
    (place / "o.yaml").write_text("names: {car: vehicle, truck: vehicle}\n")
    assert parse(TrainConfig, {"cfg": str(place / "o.yaml")})[0].names == config.names
    with pytest.raises(UsageError, match="without a comma"):
        parse(TrainConfig, {"names": {"a,b": "c"}})
    for lists in (["a"], {0: "a"}):
        assert is_data_description({"names": lists})
    for renames in (None, RULES, mapping):
        assert not is_data_description({"names": renames})
