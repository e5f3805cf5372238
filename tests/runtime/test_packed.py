"""Packed, fused networks against the plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hayate.models.config import UNetConfig, VAEConfig
from hayate.models.layers import Upsample
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.fused import fuse_projections
from hayate.runtime.native.kernels import kernels, refusal
from hayate.runtime.packed import PackedUpsample, pack, phases

HAS_KERNELS = refusal() is None
WITH = pytest.param(True, marks=pytest.mark.skipif(not HAS_KERNELS, reason="no kernels here"))


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(1)
    config = UNetConfig(
        channels=64,
        multipliers=(1, 2, 2),
        res_blocks=1,
        transformer_depths=(1, 1, 0),
        middle_depth=1,
        context_width=48,
        heads=4,
        vector_width=20,
    )
    return UNet(config).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(VAEConfig(channels=32, multipliers=(1, 2, 2))).eval().requires_grad_(requires_grad=False)


def make_fast(network: nn.Module, has_kernels: bool) -> nn.Module:
    fast = copy.deepcopy(network)
    found = kernels() if has_kernels else None
    fuse_projections(fast)
    assert pack(fast, found) > 30
    if found:
        for module in fast.modules():
            if hasattr(module, "attention"):
                module.attention = lambda q, k, v, is_causal=False: found.attention(q, k, v)
    return fast


def error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    return float((actual.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("has_kernels", [False, WITH])
@pytest.mark.parametrize("size", [(16, 16), (24, 40), (18, 18)])
@torch.inference_mode()
def test_a_packed_unet_computes_the_same(unet, has_kernels, size):
    x, context, vector = torch.randn(2, 4, *size), torch.randn(2, 77, 48), torch.randn(2, 20)
    inputs = (x, torch.tensor([3.0, 980.0]), context, vector)
    exact = unet(*inputs)
    assert error(make_fast(unet, has_kernels)(*inputs), exact) < 1e-5
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    narrow = [each.bfloat16() if each.dim() > 1 else each for each in inputs]
    plain_bf16 = copy.deepcopy(unet).bfloat16()
    plain, fast = error(plain_bf16(*narrow), exact), error(make_fast(plain_bf16, has_kernels)(*narrow), exact)
    assert fast <= 1.1 * plain


@pytest.mark.parametrize("has_kernels", [False, WITH])
@torch.inference_mode()
def test_a_packed_vae_computes_the_same(vae, has_kernels):
    latents = torch.randn(1, 4, 12, 20)
    exact = vae.decode(latents)
    fast = make_fast(vae, has_kernels)
    assert isinstance(fast, AutoencoderKL)
    assert error(fast.decode(latents), exact) < 1e-5
    pixels = torch.randn(1, 3, 48, 80)
    assert error(fast.encode_moments(pixels)[0], vae.encode_moments(pixels)[0]) < 1e-5


@torch.inference_mode()
def test_four_small_convolutions_are_the_doubled_map_convolved():
    layer = Upsample(6).double()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    exact = layer(x)
    padded = F.pad(x, (1, 1, 1, 1))
    for index, weight in enumerate(phases(layer.conv.weight)):
        row, column = divmod(index, 2)
        part = F.conv2d(padded, weight, layer.conv.bias)[:, :, row : row + 5, column : column + 7]
        torch.testing.assert_close(part, exact[:, :, row::2, column::2], rtol=1e-6, atol=1e-6)
    packed = PackedUpsample(layer.float())
    torch.testing.assert_close(packed(x.float()), exact.float(), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_fusing_keeps_every_result(unet):
    x, context, vector = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 48), torch.randn(1, 20)
    fused = copy.deepcopy(unet)
    assert fuse_projections(fused) == len(unet.transformer_blocks())
    inputs = (x, torch.tensor([500.0]), context, vector)
    torch.testing.assert_close(fused(*inputs), unet(*inputs), rtol=1e-5, atol=1e-5)
