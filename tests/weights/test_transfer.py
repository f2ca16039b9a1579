"""Transfer: what fits is taken, class rows follow their names, the rest has its reason."""

import pytest
import torch
from yolodet.detector.checkpoints.adopt import default_names
from yolodet.detector.models.build import build
from yolodet.weights.transfer import SYNONYMS, TransferError, transfer


def make_state(num_classes, hidden=6, seed=0, dtype=torch.float32):
    """A tiny head: a body tensor, a counter, a hidden layer, a class convolution with bias."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    return {
        "stem.weight": rand(8, 3, 3, 3),
        "stem.steps": torch.tensor(seed),
        "head.hidden.weight": rand(hidden, 8, 1, 1),
        "head.cls.weight": rand(num_classes, hidden, 1, 1),
        "head.cls.bias": rand(num_classes),
    }


KEYS = ["head.cls.*"]


def test_equal_models_are_taken_whole_and_as_copies():
    old, new = make_state(3, seed=1), make_state(3, seed=2)
    result = transfer(old, new, class_names_from=["a", "b", "c"], class_names_to=["a", "b", "c"])
    assert result.left_out == [] and result.by_class == () and list(result.loaded) == list(new)
    for name, tensor in result.loaded.items():
        assert torch.equal(tensor, old[name])
        assert tensor.data_ptr() != old[name].data_ptr()
    assert result.report() == "transferred 5 of 5 tensors"


@pytest.mark.parametrize("keys", [KEYS, None])
def test_class_rows_follow_their_names_and_new_classes_keep_their_start(keys):
    old, new = make_state(4, seed=1), make_state(3, seed=2)
    result = transfer(old, new, class_names_from=["cat", "dog", "bird", "fish"],
                      class_names_to=["fish", "truck", "Dog "], class_keys=keys)
    for name in ("head.cls.weight", "head.cls.bias"):
        assert torch.equal(result.loaded[name][0], old[name][3])
        assert torch.equal(result.loaded[name][1], new[name][1])
        assert torch.equal(result.loaded[name][2], old[name][1])
    assert result.classes == ("fish", "Dog ") and result.left_out == []
    assert result.report() == "transferred 5 of 5 tensors; 2 of 3 classes by name (fish, Dog )"


def test_the_exact_name_wins_over_one_that_differs_in_capitals():
    old, new = make_state(3, seed=1), make_state(1, seed=2)
    result = transfer(old, new, class_names_from=["Cat", "cat", "CAT"], class_names_to=["cat"])
    assert torch.equal(result.loaded["head.cls.bias"][0], old["head.cls.bias"][1])


def test_reordered_classes_of_equal_number_are_permuted():
    old, new = make_state(3, hidden=3, seed=1), make_state(3, hidden=3, seed=2)
    result = transfer(old, new, class_names_from=["a", "b", "c"], class_names_to=["c", "a", "b"],
                      class_keys=KEYS)
    assert torch.equal(result.loaded["head.cls.weight"], old["head.cls.weight"][[2, 0, 1]])
    # as wide as the number of classes, but not a class tensor: must not be permuted
    assert torch.equal(result.loaded["head.hidden.weight"], old["head.hidden.weight"])


def test_reordered_classes_without_patterns_are_refused_not_guessed():
    with pytest.raises(ValueError, match="class_keys"):
        transfer(make_state(3), make_state(3), class_names_from=["a", "b", "c"],
                 class_names_to=["c", "a", "b"])


def test_no_equal_class_leaves_the_class_tensors_alone():
    old, new = make_state(3, seed=1), make_state(2, seed=2)
    result = transfer(old, new, class_names_from=["a", "b", "c"], class_names_to=["x", "y"],
                      class_keys=KEYS)
    assert set(result.loaded) == {"stem.weight", "stem.steps", "head.hidden.weight"}
    assert {name for name, reason in result.left_out if "no class" in reason} == {
        "head.cls.weight", "head.cls.bias"}
    assert "the class layers start fresh" in result.report()


def test_names_of_voc_find_those_of_coco_and_are_reported():
    old, new = make_state(3, seed=1), make_state(3, seed=2)
    result = transfer(old, new, class_names_from=["airplane", "couch", "tv"],
                      class_names_to=["sofa", "aeroplane", "chair"], class_keys=KEYS)
    assert result.classes == ("sofa", "aeroplane")
    assert torch.equal(result.loaded["head.cls.bias"][:2], old["head.cls.bias"][[1, 0]])
    assert result.report().endswith("synonyms sofa = couch, aeroplane = airplane")
    back = transfer(old, new, class_names_from=["aeroplane", "sofa", "x"],
                    class_names_to=["couch", "y", "Airplane"], class_keys=KEYS)
    assert back.synonyms == (("couch", "sofa"), ("Airplane", "aeroplane"))


def test_a_synonym_does_not_take_the_row_of_a_class_of_that_name():
    old, new = make_state(2, seed=1), make_state(3, seed=2)
    result = transfer(old, new, class_names_from=["couch", "tv"],
                      class_names_to=["sofa", "couch", "tv"], class_keys=KEYS)
    assert result.classes == ("couch", "tv") and result.synonyms == ()


def test_synonyms_are_names_of_coco():
    coco = default_names(80)
    assert set(SYNONYMS.values()) <= set(coco) and not set(SYNONYMS) & set(coco)


def test_every_tensor_left_out_has_its_reason():
    old, new = make_state(3, hidden=6), make_state(3, hidden=4)
    del new["stem.steps"]
    new["neck.weight"] = torch.zeros(2)
    result = transfer(old, new, class_names_from=["a", "b", "c"], class_names_to=["a", "b", "c"])
    reasons = dict(result.left_out)
    assert reasons["stem.steps"] == "the model has no tensor of this name"
    assert reasons["neck.weight"].startswith("not in the checkpoint")
    assert reasons["head.cls.weight"] == "shape 3x6x1x1 in the checkpoint, 3x4x1x1 here"
    # every name is accounted for exactly once
    assert sorted([*reasons, *result.loaded]) == sorted({*old, *new})
    assert result.report() == "transferred 2 of 5 tensors; 4 left out"
    lines = result.details().splitlines()
    assert lines[0] == result.report() and len(lines) == 1 + len(result.left_out)


def test_dtype_of_the_model_is_kept():
    old, new = make_state(3, dtype=torch.float16), make_state(2)
    result = transfer(old, new, class_names_from=["a", "b", "c"], class_names_to=["c", "d"])
    assert all(result.loaded[name].dtype == new[name].dtype for name in new)
    assert torch.equal(result.loaded["head.cls.bias"][0], old["head.cls.bias"][2].float())


def test_unknown_class_names_never_move_rows():
    old, new = make_state(3, seed=1), make_state(2, seed=2)
    result = transfer(old, new, class_names_from=[], class_names_to=["a", "b"])
    assert "head.cls.bias" not in result.loaded and result.by_class == ()


def test_a_checkpoint_of_another_model_is_an_error():
    with pytest.raises(TransferError, match="checkpoint's 1 tensor fits one of this") as caught:
        transfer({"other": torch.zeros(1)}, make_state(2), class_names_from=["a", "b"],
                 class_names_to=["a", "b"])
    assert caught.value.exit_code == 2


def test_a_detector_of_other_classes_sees_the_common_ones_as_before():
    """The proof in use: logits of "car" and "person" do not depend on which model is asked."""
    torch.manual_seed(0)
    old_names, new_names = ("person", "bicycle", "car"), ("car", "person", "kite")
    old, new = build("yolo26n", 3).eval(), build("yolo26n", 3).eval()
    for key in old.class_keys:  # fresh class layers are alike for all classes: make them differ
        torch.nn.init.normal_(old.get_parameter(key))
    result = transfer(old.state_dict(), new.state_dict(), class_names_from=old_names,
                      class_names_to=new_names, class_keys=old.class_keys)
    assert result.left_out == [] and set(result.by_class) == set(old.class_keys)
    new.load_state_dict(result.loaded)
    with torch.inference_mode():
        images = torch.rand(1, 3, 64, 64)
        before, after = old(images), new(images)
    for branch in old.branches:
        assert torch.allclose(after[branch].logits[..., :2], before[branch].logits[..., [2, 0]])
        assert torch.equal(after[branch].distances, before[branch].distances)
        assert not torch.allclose(after[branch].logits[..., 2], before[branch].logits[..., 1])
