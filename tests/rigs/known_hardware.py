"""Traits of devices that tests decide about without having them."""

from __future__ import annotations

from yolodet.detector.run.hardware import DeviceTraits


def card(name: str, major: int, minor: int) -> DeviceTraits:
    """A CUDA device as ``traits_of`` describes one."""
    at = (major, minor)
    return DeviceTraits("cuda", name, at, bf16_native=at >= (8, 0), fp16_native=at >= (7, 0))


GTX_1660 = card("NVIDIA GeForce GTX 1660 Ti", 7, 5)
T4 = card("Tesla T4", 7, 5)
V100 = card("Tesla V100-SXM2-16GB", 7, 0)
P100 = card("Tesla P100-PCIE-16GB", 6, 0)
A100 = card("NVIDIA A100-SXM4-40GB", 8, 0)
H200 = card("NVIDIA H200", 9, 0)
OLD_CPU = DeviceTraits("cpu", "AVX2")
ZEN4 = DeviceTraits("cpu", "AVX512", bf16_native=True)
AMX = DeviceTraits("cpu", "AVX512", bf16_native=True, fp16_native=True)
MPS = DeviceTraits("mps", "mps", fp16_native=True)
