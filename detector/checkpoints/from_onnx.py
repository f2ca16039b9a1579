"""Convert an ONNX file to a checkpoint of det that can be trained.

The convolutions are copied; batch norms that were folded into them are put back and, given images,
measured on those.  Then both networks are run on the same input, and a difference beyond rounding
is an error: what is written computes what the file computes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...datasets.images.image import read_usable
from ...datasets.scan.scan import scan_split
from ...datasets.sets.locate import load_dataset
from ...files.counted import counted
from ...files.download import sha256_of
from ...files.errors import InputError
from ...weights.architecture import Architecture
from ...weights.checkpoint import MAX_SIDE, Meta, save_weights
from ...weights.importers.errors import ImportFailed
from ...weights.importers.imported import NORM_EPS, Tensors, unfuse
from ...weights.importers.onnx_graph import OnnxNetwork, read_network
from ..export.exported import about_file
from ..export.formats.about import MARK, About
from ..export.formats.onnx import open_file
from ..export.proof.examiner import letterboxed
from ..models.build import architecture_of
from ..models.detector import Detector
from ..models.detector_like import fitted
from ..options.weights import WeightsConvertConfig
from ..run.log import Log
from .adopt import default_names, usual_size
from .recognize import recognize
from .statistics import IMAGES, measure_norms, unmeasured_norms

BATCH = 16
CLOSE = 1e-3
"""Largest difference of an output, in deviations of that output: rounding stays far below."""


class NoLicense(InputError):
    """The license of the weights was not given, and the file does not say it."""


def convert_onnx(
    source: Path,
    target: Path,
    *,
    license: str | None = None,
    origin: str | None = None,
    images: Sequence[Path] = (),
    say: Callable[[str], None],
) -> Meta:
    """Write the network of an ONNX file as a checkpoint of det.

    license, origin: of the weights, as their publisher states them; a file of det export has them.
    images: to measure folded batch norms on; without any, training measures them when it begins.
    say: receives remarks.  Raises NoLicense, ImportFailed, ExportError where ONNX Runtime refuses
    the file, ImageError where no image can be read, OSError where ``target`` cannot be written.
    """
    network = read_network(source)
    about = _own_description(source, network)
    meta, known = None, None
    if about is not None:
        meta = about.meta
        known = with_branch(meta.architecture, about.head) if meta.architecture else None
    if meta is not None and license is not None:
        raise InputError(f"license= has no effect: {source} says {meta.license} of itself")
    if meta is None and license is None:
        raise NoLicense(
            f"{source} does not say its license: add license= as the publisher states it (such as "
            "license=Apache-2.0), and origin= with its address"
        )
    model, places = recognize(network, source, known)
    model.load_state_dict(tensors_of(network, places))
    model.eval()
    prove(model, network, places, source)
    if meta is None:
        meta = _foreign_meta(model, network, source)
    facts = [origin or "", f"{source.name}, sha256 {sha256_of(source)}"]
    if norms := unmeasured_norms(model, model.state_dict()):
        seen = 0
        if images:
            size = fitted(meta.image_size, model.max_stride).whole
            batches = _batches(images[:IMAGES], size, model.letterbox, say)
            seen = measure_norms(model, norms.values(), batches)
            prove(model, network, places, source)
            facts.append(f"{len(norms)} batch norms measured on {counted(seen, 'image')}")
        say(_about_norms(len(norms), seen))
    meta = replace(
        meta,
        license=license or meta.license,
        provenance="; ".join(filter(None, [*facts, _previous(meta)])),
        architecture=architecture_of(model),
        strides=model.strides,
        precision="fp32",
    )
    save_weights(target, model.state_dict(), meta)
    return meta


def _about_norms(count: int, seen: int) -> str:
    if seen:
        return f"{counted(count, 'batch norm')} measured on {counted(seen, 'image')}"
    return (
        f"{counted(count, 'batch norm')} were folded into the convolutions: det train measures "
        "them on its images when it begins; data= measures them now"
    )


def _own_description(path: Path, network: OnnxNetwork) -> About | None:
    """What a file of det export says of itself; None for other files."""
    if not any(pair.key == MARK for pair in network.model.metadata_props):
        return None
    return about_file(path)


def with_branch(architecture: Architecture, branch: str) -> Architecture:
    """The architecture with this head branch only."""
    others = tuple(f"head.{other}." for other in architecture.branches if other != branch)
    widths = {
        path: width
        for path, width in architecture.widths.items()
        if not path.startswith((*others, "auxiliary."))
    }
    return replace(architecture, branches=(branch,), widths=widths)


def _previous(meta: Meta) -> str:
    """Where the weights of a file of det export come from."""
    return "" if meta.provenance == Meta.provenance else meta.provenance


def _foreign_meta(model: Detector, network: OnnxNetwork, path: Path) -> Meta:
    """Of a file of another project: it has no class names, and its size if that is fixed."""
    sides = [side for side in network.shape[2:] if side is not None]
    size = max(sides, default=usual_size(model.name))
    if size > MAX_SIDE:
        raise ImportFailed(f"{path} has an input of {size} pixels: the limit is {MAX_SIDE}")
    return Meta(
        model=model.name,
        class_names=default_names(model.num_classes),
        image_size=size,
        strides=model.strides,
        precision="fp32",
        provenance=Meta.provenance,
        preprocess=model.preprocessing,
    )


def tensors_of(network: OnnxNetwork, places: dict[str, int]) -> Tensors:
    """The state dict of a model: the numbers of the file, and norms that only add a bias where it
    has none.  places: our path of a convolution -> its number in the file."""
    found: Tensors = {}
    for path, number in places.items():
        conv = network.convolutions[number]
        found[f"{path}.weight"] = torch.from_numpy(conv.weight)
        bias = conv.bias if conv.bias is not None else np.zeros(len(conv.weight), np.float32)
        norm = path.removesuffix("conv") + "norm"
        if conv.norm is None or not path.endswith(".conv"):
            found[f"{path}.bias"] = torch.from_numpy(bias)
            continue
        own = conv.norm
        found[f"{norm}.weight"] = torch.from_numpy(own.weight)
        found[f"{norm}.bias"] = torch.from_numpy(own.bias)
        found[f"{norm}.running_mean"] = torch.from_numpy(own.mean - bias)
        found[f"{norm}.running_var"] = torch.from_numpy(own.variance + own.epsilon - NORM_EPS)
        found[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return unfuse(found)


@torch.no_grad()
def prove(model: Detector, network: OnnxNetwork, places: dict[str, int], path: Path) -> None:
    """Raise ImportFailed unless the last convolutions of model and file give the same numbers."""
    read = frozenset().union(*(conv.before for conv in network.convolutions))
    last = {
        ours: network.convolutions[number].result
        for ours, number in places.items()
        if number not in read
    }
    images = torch.rand(_shape(model, network, path), generator=torch.Generator().manual_seed(0))
    ours = _outputs(model, images, list(last))
    own_input, worst = model.preprocess(images.clone()), math.inf
    for given in (own_input, images):  # as the family expects it, or RGB in 0..1
        theirs = _run(network, given, list(last.values()))
        differences = [
            float((a - b).abs().max() / (b.std() + 1e-6 * b.abs().max() + 1e-12))
            for a, b in zip(ours, theirs, strict=True)
        ]
        worst = min(worst, max(differences))
        if worst <= CLOSE:
            return
    raise ImportFailed(
        f"{path} has the layers of a {model.name} and computes something else: outputs differ by "
        f"{worst:.2g} of their deviation; it was changed, or written for another version"
    )


def _shape(model: Detector, network: OnnxNetwork, path: Path) -> tuple[int, ...]:
    """Of the images to compare on."""
    usual = (1, model.channels, 2 * model.max_stride, 2 * model.max_stride)
    shape = tuple(own or free for own, free in zip(network.shape, usual, strict=True))
    wrong = [side for side in shape[2:] if side % model.max_stride or side > MAX_SIDE]
    if shape[1] != model.channels or wrong:
        raise ImportFailed(
            f"{path} has an input of shape {list(shape)}: expected "
            f"{counted(model.channels, 'channel')}, and sides that are multiples of "
            f"{model.max_stride}"
        )
    return shape


def _outputs(model: Detector, images: torch.Tensor, paths: list[str]) -> list[torch.Tensor]:
    """Of the plain convolutions ``paths``."""
    found: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output, path=path: found.update({path: output})
        )
        for path in paths
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return [found[path] for path in paths]


def _run(network: OnnxNetwork, images: torch.Tensor, names: list[str]) -> list[torch.Tensor]:
    """Values of the graph in ONNX Runtime."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(network.model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    kind = watched.graph.input[0].type.tensor_type.elem_type
    given = images.numpy()
    if kind == onnx.TensorProto.UINT8:
        given = given * 255
    given = given.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "watched.onnx"
        file.write_bytes(watched.SerializeToString())
        run = open_file(file, torch.device("cpu"), name=network.images)
        return [torch.from_numpy(value.astype(np.float32)) for value in run(given)]


def images_to_measure(config: WeightsConvertConfig, log: Log) -> list[Path]:
    """Training images of ``data=``, evenly spread, as many as are needed.  Raises what reading the
    data raises."""
    dataset = load_dataset(config.data_source, download=config.online, on_message=log.message)
    records = scan_split(dataset, "train", strict=config.allow is None).records
    step = max(len(records) // IMAGES, 1)
    return [record.path for record in records[::step]]


def _batches(
    paths: Sequence[Path], size: tuple[int, int], align: str, say: Callable[[str], None]
) -> Iterator[torch.Tensor]:
    """Images [B,3,H,W] uint8, letterboxed."""
    pictures = list(read_usable(paths, say))
    for begin in range(0, len(pictures), BATCH):
        yield letterboxed(pictures[begin : begin + BATCH], size, align)
