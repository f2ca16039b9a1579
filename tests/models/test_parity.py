"""Models of other projects compute here what they compute there.

The fixtures in the repository need nothing else (``rigs/parity.py`` says where they come from); the
original implementations' own outputs are compared where they are at hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from originals import FILES, ORIGINALS, RAW, compare_with_original
from parity import FIELDS, MODELS, image, known_outputs, load, run, write_foreign
from rows import each

LICENSES = {"yolov9t": "MIT", "yolox_nano": "Apache-2.0"}


@each("name", MODELS)
def test_a_foreign_file_computes_what_its_project_computes(name: str, tmp_path: Path) -> None:
    detector, imported = load(write_foreign(name, tmp_path))
    assert (imported.name, imported.license) == (name, LICENSES.get(name, "AGPL-3.0"))
    assert imported.notes == () and imported.num_classes == 80
    known = known_outputs()
    assert [key for key in known if key.startswith(f"{name}.")] == [
        f"{name}.{branch}.{field}" for branch in detector.branches for field in FIELDS
    ]
    plain = run(detector, image())
    for found in (plain, run(detector.fuse(), image())):
        for branch in plain:
            for field in FIELDS:
                expected = known[f"{name}.{branch}.{field}"]
                torch.testing.assert_close(
                    getattr(found[branch], field), expected, atol=RAW, rtol=1e-4
                )


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f"needs the originals' outputs in {ORIGINALS}")
def test_the_original_implementations_agree() -> None:
    for file in FILES:
        for fused in (False, True):
            compare_with_original(file, fused=fused)
