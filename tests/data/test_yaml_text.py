"""Reading YAML of other people: limits on size, depth and aliases, and what plain text means."""

from __future__ import annotations

from pathlib import Path

import pytest
from yolodet.datasets.sets.dataset import DatasetError
from yolodet.datasets.sets.description import read_description
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.files.yaml_text import LIMIT_BYTES, MAX_DEPTH, MAX_VALUES, YamlError, read_yaml


def bomb(levels: int, merges: bool = False) -> str:
    """Nine aliases of the level below in each: 9 to the power of ``levels`` values."""
    lines = ["l0: &l0 {a: 1, b: 2}" if merges else "l0: &l0 [a, b]"]
    for level in range(1, levels):
        items = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"l{level}: &l{level} " + ("{<<: [%s]}" if merges else "[%s]") % items)
    return "\n".join(lines)


HOSTILE = {
    "aliases of aliases": (bomb(12), "aliases expand to more than"),
    "merged aliases": (bomb(12, merges=True), "aliases expand to more than"),
    "an alias in its own anchor": ("a: &x [*x]", "inside its own anchor"),
    "nesting": ("[" * 100_000, f"more than {MAX_DEPTH} levels"),
    "nested keys": ("? " * 100_000, f"more than {MAX_DEPTH} levels"),
    "size": ("#" * (LIMIT_BYTES + 1), "larger than 4 MiB"),
    "values": ("[" + "a," * (MAX_VALUES + 1) + "]", f"more than {MAX_VALUES:,} keys"),
    "digits": ("a: " + "9" * 10_000, "a number of 10,000 characters"),
    "hexadecimal digits": ("a: 0x" + "f" * 10_000, "a number of 10,002 characters"),
    "a base-60 number by tag": ("a: !!int 1:30", "'1:30' is not a number"),
    "no number": ("a: !!int", "'' is not a number"),
    "no switch": ("a: !!bool maybe", "not valid YAML"),
    "bytes": ("a: !!binary aGk=", "could not determine a constructor"),
    "code": ("a: !!python/name:os.system x", "could not determine a constructor"),
    "a list as a key": ("? [a]\n: b", "unhashable key"),
    "a key twice": ("a: 1\na: 2", "occurs twice"),
    "a nul": ("\0", "unacceptable character"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_yaml_is_one_short_line(tmp_path: Path, case: str) -> None:
    text, said = HOSTILE[case]
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(YamlError) as caught:
        read_yaml(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and said in message
    assert "\n" not in message and len(message) < 400


def test_dates_and_times_stay_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("[1:30, 1:2.5, 2026-01-02, 0x10, 1_000, -4, 1.5, .inf, yes, null, &a b, *a]")
    assert read_yaml(file) == [
        "1:30", "1:2.5", "2026-01-02", 16, 1000, -4, 1.5, float("inf"), True, None, "b", "b",
    ]  # fmt: skip


def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(YamlError, match="is not a file"):
            read_yaml(path)


@pytest.mark.parametrize("case", ["aliases of aliases", "nesting", "digits"])
def test_every_place_that_reads_yaml_has_the_limits(tmp_path: Path, case: str) -> None:
    text, said = HOSTILE[case]
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        parse(TrainConfig, {"cfg": str(file)})
    with pytest.raises(DatasetError, match=said):
        read_description(file, print)


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"epochs: [{'1, ' * 10_000}]")
    with pytest.raises(UsageError) as caught:
        parse(TrainConfig, {"cfg": str(file)})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "numbers",
    ["train: 100000000000", "train: 1000, size: 100000", "train: 150000, size: 4000",
     "train: 1" + "0" * 390],
)  # fmt: skip
def test_drawing_more_than_a_disk_holds_is_refused(tmp_path: Path, numbers: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"shapes: {{{numbers}}}")
    with pytest.raises(DatasetError, match="is over the limit of") as caught:
        read_description(file, print)
    assert len(str(caught.value)) < 300
