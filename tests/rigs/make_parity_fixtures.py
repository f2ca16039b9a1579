"""Write the parity fixtures.  Needs ``../shared``, and refuses where a model differs from its
original there:

    PYTHONPATH=.. python tests/rigs/make_parity_fixtures.py
"""

from __future__ import annotations

import ast
import gzip
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from originals import FILES, ORIGINALS, RAW, compare_with_original
from parity import FIXTURES, KEYS, MODELS, OUTPUTS, as_arrays, image, load, run, write_foreign

LISTS = ORIGINALS.parent / "reference" / "keys"
SPREAD = 0.1
"""Smallest standard deviation of an output, a hundred times the tolerance of the test: a network
whose signal has died would prove nothing."""


def main() -> None:
    for file in FILES:
        compare_with_original(file, fused=False)
        print(f"{file}: equal to the original")
    lists = {
        path.name.removesuffix("_keys.txt"): [
            (key, ast.literal_eval(shape)) for key, shape, _ in rows_of(path)
        ]
        for path in sorted(LISTS.glob("*_keys.txt"))
    }
    FIXTURES.mkdir(exist_ok=True)
    KEYS.write_bytes(gzip.compress(json.dumps(lists).encode(), 9, mtime=0))
    arrays, swapped = {}, {}
    with TemporaryDirectory() as folder:
        for name in MODELS:
            detector, _ = load(write_foreign(name, Path(folder)))
            arrays |= as_arrays(name, run(detector, image()))
            swapped |= as_arrays(name, run(detector, image().flip(1)))
    for key, values in arrays.items():
        spread, change = values.std(), np.abs(values - swapped[key]).max()
        print(f"{key}: {values.shape}, spread {spread:.3f}, channels swapped {change:.3f}")
        if not SPREAD < spread < 100 or change < 10 * RAW:
            sys.exit(f"{key} says too little about the network: change rigs/parity.formula")
    np.savez_compressed(OUTPUTS, **arrays)
    print(f"{(KEYS.stat().st_size + OUTPUTS.stat().st_size) / 1000:.0f} kB")


def rows_of(path: Path) -> list[list[str]]:
    """Name, shape and type of every tensor in a list."""
    rows = path.read_text().splitlines()
    return [row.split("\t") for row in rows if row and not row.startswith("#")]


if __name__ == "__main__":
    main()
