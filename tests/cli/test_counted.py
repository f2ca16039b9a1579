"""One thing is not called several."""

from __future__ import annotations

import pytest
from yolodet.files.counted import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "class", "1 class"), (0, "class", "0 classes"), (2, "training image", "2 training images"),
     (3, "box", "3 boxes")],
)  # fmt: skip
def test_a_noun_follows_its_number(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
