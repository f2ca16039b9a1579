"""What 8 bits do to every stage of exported networks, here or in a process with fewer instructions.

As a program: the file of inputs and those of the networks are its arguments, and it prints whether
the processor has instructions for 8 bits, and the effects.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from yolodet.detector.export.int8.effects import measure_effects
from yolodet.detector.export.int8.onnx import OnnxNetwork
from yolodet.detector.export.int8.ranges import find_ranges
from yolodet.detector.run.hardware import traits_of


def effects_of(inputs: str, *networks: str) -> dict[str, dict[str, float]]:
    """Network -> stage -> relative error of the outputs.  inputs: an .npy file, [N,1,3,H,W]."""
    batches = list(np.load(inputs))
    found = {}
    for path in networks:
        network = OnnxNetwork(path)
        effects = measure_effects(network, find_ranges(network, batches, "minmax"), batches)
        found[path] = {effect.stage: effect.error for effect in effects}
    return found


if __name__ == "__main__":
    vnni = traits_of(torch.device("cpu")).int8_native
    print(json.dumps([vnni, effects_of(*sys.argv[1:])]))
