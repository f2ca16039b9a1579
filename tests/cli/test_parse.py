"""Words -> config: what is read, what is refused and what is said about it."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest
import yaml
from rows import each
from yolodet.detector.options.argv import read_words
from yolodet.detector.options.catalog import COMMANDS
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.export import ExportConfig
from yolodet.detector.options.fields import options_of
from yolodet.detector.options.pages import all_as_yaml, as_yaml
from yolodet.detector.options.parse import parse
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.options.shared import FlagsConfig
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.options.val import ValConfig

CONFIGS = [TrainConfig, ValConfig, PredictConfig]


def message(config_class: type, **words: object) -> str:
    with pytest.raises(UsageError) as caught:
        parse(config_class, words)
    assert caught.value.exit_code == 2
    return str(caught.value)


@each(
    ("word", "expected"),
    [
        ({"epochs": "50"}, 50),
        ({"epochs": "1e2"}, 100),
        ({"epochs": 3.0}, 3),
        ({"lr0": "1e-3"}, 1e-3),
        ({"lr0": "none"}, None),
        ({"lrf": "1"}, 1.0),
        ({"save": "FALSE"}, False),
        ({"save": "0"}, False),
        ({"save": "Yes"}, True),
        ({"save": 1}, True),
        ({"amp": "True"}, True),
        ({"amp": False}, False),
        ({"amp": "BF16"}, "bf16"),
        ({"optimizer": "sgd"}, "SGD"),
        ({"cache": True}, "ram"),
        ({"cache": "none"}, "none"),
        ({"resume": "True"}, True),
        ({"resume": False}, None),
        ({"pretrained": "False"}, False),
        ({"pretrained": True}, True),
        ({"device": 0}, "0"),
        ({"device": [0]}, "0"),
        ({"freeze": "[0, 'neck']"}, ("0", "neck")),
        ({"freeze": "3"}, 3),
        ({"freeze": False}, None),
        ({"name": "none"}, None),
        ({"name": "a=b c"}, "a=b c"),
    ],
)
def test_a_word_becomes_the_type_of_its_option(word: dict[str, object], expected: object) -> None:
    config, given = parse(TrainConfig, word)
    (name,) = word
    assert getattr(config, name) == expected
    assert type(getattr(config, name)) is type(expected)
    assert given == (frozenset() if expected is None else {name})


def test_a_size_is_one_side_or_height_and_width() -> None:
    for word in ("480,640", "480x640", "[480, 640]", [480, 640], (480, 640)):
        assert parse(ExportConfig, {"imgsz": word})[0].imgsz == (480, 640)
    for word in ("640", 640, [640]):
        assert parse(ExportConfig, {"imgsz": word})[0].imgsz == 640
    with pytest.raises(UsageError, match="imgsz=x: expected a side or height,width"):
        parse(ExportConfig, {"imgsz": "x"})


@each(
    ("word", "said"),
    [
        ({"EPOCHS": 3}, "did you mean 'epochs'"),
        ({"batch_size": 3}, "use batch="),
        ({"img_size": 3}, "use imgsz="),
        ({"zzz": 3}, "see det train --help"),
        ({"conf": 0.5}, "belongs to det val and det predict"),
        ({"epochs": True}, "expected a whole number"),
        ({"mosaic": 2}, "mosaic=2 is out of range: expected a number from 0 to 1"),
        ({"lr0": float("inf")}, "expected a number"),
        ({"lr0": [0.1]}, "expected a number"),
        ({"save": 0.0}, "expected True or False"),
        ({"freeze": True}, "freeze=True: expected a whole number or names"),
        ({"name": True}, "expected text"),
        ({"project": {"a": 1}}, "expected text"),
    ],
)
def test_a_wrong_word_is_answered_with_what_was_expected(
    word: dict[str, object], said: str
) -> None:
    assert said in message(TrainConfig, **word)


def test_nothing_given_is_the_defaults() -> None:
    for config_class in CONFIGS:
        assert parse(config_class, {}) == (config_class(), frozenset())


def test_words_win_over_the_cfg_file_and_the_file_over_the_defaults(tmp_path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("epochs: 7\nlr0: 1e-3\namp: true\nbatch: 16\ndevice: 0\n")
    config, given = parse(TrainConfig, {"cfg": file, "epochs": "9"})
    assert (config.epochs, config.lr0, config.amp, config.device) == (9, 1e-3, True, "0")
    # batch: 16 is the default: a file that repeats it has not asked for it
    assert given == {"epochs", "lr0", "amp", "device"}


@each(
    ("content", "said"),
    [
        ("epoch: 3\n", "unknown option 'epoch'"),
        ("epochs: [3]\n", "expected a whole number"),
        ("epochs: 3\n  batch: {\n", "not valid YAML"),
        ("- 1\n", "found a list"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_wrong_cfg_file_is_named(tmp_path, content: str, said: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(content)
    text = message(TrainConfig, cfg=file)
    assert said in text
    assert str(file) in text


def test_a_missing_cfg_file_says_where_it_looked(tmp_path) -> None:
    assert str(tmp_path) in message(TrainConfig, cfg=tmp_path / "none.yaml")


@pytest.mark.parametrize("config_class", CONFIGS)
def test_printed_config_reads_back_as_itself(tmp_path, config_class: type) -> None:
    command = next(command for command in COMMANDS if command.config is config_class)
    config, given = parse(config_class, {"batch": 3, "device": "cpu", "amp": "bf16"})
    file = tmp_path / "my.yaml"
    file.write_text(as_yaml(command, asdict(config)))
    assert parse(config_class, {"cfg": file}) == (config, given)


@pytest.mark.parametrize("config_class", CONFIGS)
def test_the_printout_of_all_defaults_reads_back_for_each_command(tmp_path, config_class) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(all_as_yaml())
    assert parse(config_class, {"cfg": file}) == (config_class(), frozenset())
    content = yaml.safe_load(file.read_text())
    content["train"]["epochs"] = 7
    file.write_text(yaml.safe_dump(content))
    assert parse(TrainConfig, {"cfg": file})[0].epochs == 7


def test_every_default_passes_its_own_check() -> None:
    for command in COMMANDS:
        for entry in fields(command.config):
            if entry.default is not None:
                config, _ = parse(command.config, {entry.name: entry.default})
                assert getattr(config, entry.name) == entry.default


@each(
    "typed",
    [
        "train data=coco8.yaml amp=True epochs=50 save=False",
        "train --data coco8.yaml --amp --epochs 50 --no-save",
        "train --data=coco8.yaml --amp=True --epochs=50 --save=False",
        "train coco8.yaml --amp true epochs = 50 --save no",
        "data=coco8.yaml amp=yes train epochs= 50 save =0",
    ],
)
def test_both_grammars_mean_the_same(typed: str) -> None:
    call = read_words(typed.split())
    assert call.path == ("train",)
    config, given = parse(TrainConfig, call.words)
    assert config == TrainConfig(data="coco8.yaml", amp=True, epochs=50, save=False)
    assert given == {"data", "amp", "epochs", "save"}


@each(
    ("typed", "words"),
    [
        ("train --save-period -1", {"save_period": "-1"}),
        ("train --no-amp epochs=2", {"amp": "false", "epochs": "2"}),
        ("train --amp bf16", {"amp": "bf16"}),
        ("train --amp --val", {"amp": "true", "val": "true"}),
        ("train save-period=3", {"save_period": "3"}),
        ("predict a.jpg", {"source": "a.jpg"}),
        ("predict a.jpg b.jpg", {"source": "a.jpg,b.jpg"}),
        ("predict https://a.b/c.jpg?x=1", {"source": "https://a.b/c.jpg?x=1"}),
        ("predict x classes=[0, 2]", {"source": "x", "classes": "[0,2]"}),
        ("predict source=a=b.jpg", {"source": "a=b.jpg"}),
        ("train epochs=3 epochs=3 --json", {"epochs": "3", "json": "true"}),
    ],
)
def test_words_are_taken_apart_as_meant(typed: str, words: dict[str, str]) -> None:
    assert read_words(typed.split()).words == words


def test_the_common_switches_clash_with_no_option() -> None:
    flags = {*options_of(FlagsConfig), "cfg"}
    for command in COMMANDS:
        assert not flags & options_of(command.config).keys(), command.name
