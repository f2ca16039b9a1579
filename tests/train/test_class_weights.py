"""class_weights= and balance=: what is understood, the formula, and what a run keeps of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rows import each
from tiny import make_trainer, train
from yolodet.cli import main
from yolodet.datasets.formats.record import Record
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.train.class_weights import class_weights, describe_weights
from yolodet.weights.checkpoint import read_meta

NAMES = ("king", "queen, white", "a:b", "rook")


def images_with(*labels: int) -> list[Record]:
    """One image per label."""
    box = np.array([[1, 1, 9, 9]], np.float32)
    return [Record(Path("a.jpg"), (10, 10), box, np.array([label], np.int64)) for label in labels]


@each(
    ("text", "expected"),
    [("king:2", [2, 1, 1, 1]), ("king:2,rook:0.5", [2, 1, 1, 0.5]), ("a:b:3", [1, 1, 3, 1]),
     (" 1 : 4 , 3:1e1", [1, 4, 1, 10])],
)  # fmt: skip
def test_weights_by_name_or_number(text: str, expected: list[float]) -> None:
    weights = class_weights(text, NAMES, [])
    assert weights is not None and weights.tolist() == expected and weights.dtype == np.float32


def test_balanced_weights_have_a_mean_of_one_and_fall_with_the_root_of_the_boxes() -> None:
    weights = class_weights("balanced", NAMES, images_with(*[0] * 36, *[1] * 4, 2))
    assert weights is not None and weights[3] == 1
    assert weights[1] / weights[0] == pytest.approx(3) and weights[2] / weights[1] == 2
    assert (36 * weights[0] + 4 * weights[1] + weights[2]) / 41 == pytest.approx(1)
    assert describe_weights(weights, NAMES) == "a:b 4.56, queen, white 2.28, king 0.759, others 1"
    assert class_weights(None, NAMES, []) is None


@each(
    ("text", "words"),
    [("kink:2", "unknown class 'kink': did you mean 'king'?"), ("9:2", "choose from king, "),
     ("king", "'king' is not a weight: expected balanced, or"), ("king:0", "numbers above 0"),
     ("king:-1", "numbers above 0"), ("king:nan", "not a weight"), ("king:inf", "not a weight"),
     (":2", "not a weight"), ("king:2,", "'' is not a weight"), ("king:2,king:3", "twice")],
)  # fmt: skip
def test_a_wrong_weight_says_what_was_expected(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="class_weights=") as caught:
        class_weights(text, NAMES, [])
    assert words in str(caught.value)


def test_python_takes_a_dictionary_and_balance_a_number_or_a_word() -> None:
    config, _ = parse(TrainConfig, {"class_weights": {"king": 2, "rook": 0.5}, "balance": "1"})
    assert config.class_weights == "king:2,rook:0.5"
    assert config.balance == 1.0 and not isinstance(config.balance, bool)
    for word, value in (("True", True), (0.001, 0.001), ("0", 0.0), (False, False)):
        assert parse(TrainConfig, {"balance": word})[0].balance == value
    assert parse(TrainConfig, {})[0].balance is False


BALANCED = {"balance": 0.9, "class_weights": "balanced"}


@pytest.mark.usefixtures("tiny_models")
def test_a_run_says_and_keeps_how_it_balances_its_classes(shapes: Path, tmp_path: Path) -> None:
    results = train(shapes, tmp_path, epochs=1, **BALANCED)
    folder = Path(results["folder"])

    def said() -> list[str]:
        lines = (folder / "log.txt").read_text().splitlines()
        words = ("balance=0.9: ", "class_weights=balanced: ")
        return [line[line.index(w) :] for line in lines for w in words if w in line]

    lines = said()
    assert lines[0].startswith("balance=0.9: images of classes in less than 90 % of the training ")
    assert lines[1].startswith("class_weights=balanced: ") and len(lines) == 2
    options = yaml.safe_load((folder / "args.yaml").read_text())
    assert {name: options[name] for name in BALANCED} == BALANCED
    kept = read_meta(Path(results["best"])).data
    assert kept["balance_threshold"] == 0.9 and len(kept["class_weights"]) == 10
    train(shapes, tmp_path, resume=str(folder), epochs=2)
    assert said() == 2 * lines


@pytest.mark.usefixtures("tiny_models")
def test_the_trainer_draws_and_weighs_as_it_says(shapes: Path, tmp_path: Path) -> None:
    run = make_trainer(shapes, tmp_path, **BALANCED).run
    plain = make_trainer(shapes, tmp_path, balance=0, seed=0).run
    assert run.balance is not None and len(run.train_loader) == len(plain.train_loader)
    assert run.train_loader.dataset.weights is run.balance.factors
    assert (
        plain.balance is plain.train_loader.dataset.weights is plain.criterion.class_weights is None
    )
    assert run.val_loader.dataset.weights is None
    weights = class_weights("balanced", run.class_names, run.train.records)
    assert weights is not None and run.criterion.class_weights is not None
    assert torch.equal(run.criterion.class_weights, torch.from_numpy(weights))
    only = make_trainer(shapes, tmp_path, classes="0,1", class_weights="balanced").run
    found = only.criterion.class_weights
    assert found is not None and (found[2:] == 1).all() and (found[:2] != 1).any()


@each(
    ("words", "said"),
    [("balance=2", "expected True, False or a number from 0 to 1"),
     ("balance=nan", "expected True"),
     ("balance=True single_cls=True", "no effect with single_cls=True"),
     ("class_weights=a:1 single_cls=True", "no effect with single_cls=True"),
     ("class_weights=a", "class names with numbers above 0"),
     ("cls_pw=0.5", "use class_weights=balanced")],
)  # fmt: skip
def test_wrong_words_are_answered_before_anything_is_read(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words.split()]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
