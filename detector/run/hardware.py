"""Known facts about half precision on a device, before anything runs on it.

A verdict here is a fact about the hardware with its reason; whether a precision is right and faster
for *this* model is measured in sanity.py.  Devices are described by a small record, so that
decisions for cards that are not at hand can be tested with invented ones.

On ARM, bf16 counts as native where oneDNN says so.  This has not been tried on such a machine.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

import torch

BROKEN_FP16 = re.compile(r"\b(GTX 16\d\d|T400|T500|T550|T600|T1000|T1200|T2000|MX450|MX550)\b")
"""Turing cards without tensor cores: fp16 convolutions return NaN in some cuDNN kernels on them."""


@dataclass(frozen=True)
class DeviceTraits:
    """type: cpu, cuda or mps.  name: as the driver says.  capability: CUDA's (major, minor).
    bf16_native: the processor multiplies bfloat16 itself; fp16_native: likewise for float16;
    int8_native: it adds products of 8-bit integers in 32 bits (VNNI)."""

    type: str
    name: str
    capability: tuple[int, int] = (0, 0)
    bf16_native: bool = False
    fp16_native: bool = False
    int8_native: bool = False


def traits_of(device: torch.device) -> DeviceTraits:
    """The traits of a device of this machine."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = (properties.major, properties.minor)
        return DeviceTraits(
            "cuda",
            properties.name,
            capability,
            bf16_native=capability >= (8, 0),
            fp16_native=capability >= (7, 0),
        )
    if device.type == "cpu":
        return DeviceTraits(
            "cpu",
            torch.backends.cpu.get_cpu_capability(),
            bf16_native=_cpu_has_bf16() and onednn_computes("bf16"),
            fp16_native=torch.cpu._is_amx_fp16_supported() and onednn_computes("fp16"),
            int8_native=_cpu_has_vnni(),
        )
    return DeviceTraits(device.type, device.type, bf16_native=False, fp16_native=True)


def _cpu_has_bf16() -> bool:
    """Whether the processor has the instructions.  On others than x86, oneDNN knows best."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _cpu_has_vnni() -> bool:
    """Whether an x86 processor has VNNI in one of its forms; elsewhere (ARM) dot products of 8-bit
    integers are taken for granted, which is untested."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_vnni") or features.get("avx_vnni"))


def onednn_computes(name: str) -> bool:
    """Whether oneDNN, which multiplies for torch on a CPU, accepts ``bf16`` or ``fp16``.

    Unlike what the processor says of itself, this follows ONEDNN_MAX_CPU_ISA.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    ask = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None)
    return ask is not None and bool(ask())


def product_dtype(traits: DeviceTraits) -> torch.dtype:
    """The format for products that tolerate bfloat16: that one where it is native, else float32."""
    return torch.bfloat16 if traits.bf16_native else torch.float32


def objection(traits: DeviceTraits, name: str) -> str | None:
    """Why the named precision must not be tried on the device; None where nothing is known against
    it."""
    if name == "fp32":
        return None
    if traits.type == "cpu":
        return _cpu_objection(traits, name)
    if traits.type == "cuda":
        return _cuda_objection(traits, name)
    if name == "bf16":
        return f"{traits.type} does not compute bf16 natively"
    return None


def _cpu_objection(traits: DeviceTraits, name: str) -> str | None:
    if name == "bf16" and not traits.bf16_native:
        return f"this CPU ({traits.name}) has no bf16 instructions (AVX512-BF16 or AMX)"
    if name == "fp16" and not traits.fp16_native:
        slow = "fp16 autocast is some twenty times slower than fp32"
        return f"this CPU ({traits.name}) has no fp16 instructions: {slow}"
    return None


def _cuda_objection(traits: DeviceTraits, name: str) -> str | None:
    version = ".".join(map(str, traits.capability))
    if name == "bf16" and not traits.bf16_native:
        return f"{traits.name} (compute {version}) emulates bf16; native from compute 8.0 (Ampere)"
    if name == "fp16" and BROKEN_FP16.search(traits.name):
        return f"{traits.name} returns NaN from fp16 convolutions (Turing without tensor cores)"
    if name == "fp16" and not traits.fp16_native:
        return f"{traits.name} (compute {version}) has no fast fp16; from compute 7.0 (Volta)"
    return None


def candidates(traits: DeviceTraits) -> tuple[str, ...]:
    """Half precisions worth trying on the device, the safer first: bf16 has the range of fp32 and
    needs no scaling."""
    return tuple(name for name in ("bf16", "fp16") if objection(traits, name) is None)
