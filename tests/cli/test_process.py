"""What a training sets for its whole process."""

import gc
import weakref

import pytest
import torch
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.device import gc_frozen
from yolodet.detector.train.assemble import prepare_process


class Node:
    """May refer to itself."""

    other: "Node"


def circle() -> "weakref.ref[Node]":
    """A reference to an object that only the collector can free."""
    node = Node()
    node.other = node
    return weakref.ref(node)


def test_old_objects_rest_and_new_ones_are_still_collected() -> None:
    gc.unfreeze()  # what the tests had frozen
    with gc_frozen():
        assert gc.get_freeze_count() > 1000
        new = circle()
        gc.collect()
        assert new() is None
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="out"), gc_frozen():
        raise ValueError("out")
    assert gc.get_freeze_count() == 0


def test_what_the_caller_has_frozen_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    new = [[] for _ in range(1000)]  # would be frozen, too
    with gc_frozen():  # some of the frozen objects may end at any time
        assert abs(gc.get_freeze_count() - frozen) < len(new) / 2 < frozen
    assert abs(gc.get_freeze_count() - frozen) < len(new) / 2


def test_determinism_does_not_fill_every_new_tensor() -> None:
    try:
        prepare_process(TrainConfig(deterministic=True), torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled()
        torch.full((1000,), 7.0)  # most likely the memory that the next one gets
        assert not all(torch.empty(1000).isnan().all() for _ in range(10))
    finally:
        torch.use_deterministic_algorithms(False)
