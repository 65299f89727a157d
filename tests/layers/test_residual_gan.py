"""The residual networks: the papers' sizes, blocks by hand, attention, images of any multiple of four."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gentrain.layers.conditional_norm import BatchNorm
from gentrain.layers.residual_gan import (
    Attention,
    DownBlock,
    ResidualDiscriminator,
    ResidualGenerator,
    UpBlock,
)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_papers_networks_have_the_papers_sizes() -> None:
    """Miyato et al. 2018, appendix B.4, 32x32 pixels."""
    with torch.device("meta"):
        generator = ResidualGenerator(128, (3, 32, 32), 256, 1)
        discriminator = ResidualDiscriminator((3, 32, 32), 128, 1, False)
    assert count(generator) == 4_276_739
    assert count(discriminator) == 1_053_825
    assert [block.down for block in discriminator.blocks] == [True, True, False, False]


def test_blocks_by_hand() -> None:
    torch.manual_seed(0)
    up = UpBlock(3, 5, BatchNorm).double()
    x = torch.randn(4, 3, 4, 4, dtype=torch.float64)

    def conv(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def norm(x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, None, None, training=True)

    y = conv(up.conv, F.relu(norm(conv(up.up, F.interpolate(F.relu(norm(x)), scale_factor=2)))))
    torch.testing.assert_close(up(x), y + conv(up.short, F.interpolate(x, scale_factor=2)))
    for first in (True, False):
        down = DownBlock(3, 5, True, first, spectral=False).double()
        y = F.avg_pool2d(conv(down.last, F.relu(conv(down.conv, x if first else F.relu(x)))), 2)
        torch.testing.assert_close(down(x), y + F.avg_pool2d(conv(down.short, x), 2))
    same = DownBlock(3, 3, False, spectral=False).double()
    torch.testing.assert_close(same(x), x + conv(same.last, F.relu(conv(same.conv, F.relu(x)))))


def test_attention_starts_as_nothing_and_is_the_papers() -> None:
    torch.manual_seed(0)
    layer = Attention(16, spectral=False).double()
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gain.fill_(0.5)
    query, key, value = (part(x) for part in (layer.query, layer.key, layer.value))
    key, value = F.max_pool2d(key, 2), F.max_pool2d(value, 2)
    weights = torch.einsum("bfij,bfkl->bijkl", query, key).flatten(3).softmax(-1).unflatten(3, (2, 3))
    out = torch.einsum("bijkl,bfkl->bfij", weights, value)
    torch.testing.assert_close(layer(x), x + 0.5 * layer.out(out))


@pytest.mark.parametrize("side", [8, 12, 16, 28, 32, 48, 64])
@pytest.mark.parametrize("growth", [1, 2])
def test_images_of_multiples_of_four(side: int, growth: int) -> None:
    generator = ResidualGenerator(3, (1, side, side + 4), 2, growth)
    discriminator = ResidualDiscriminator((1, side, side + 4), 2, growth, spectral=True, known=3)
    x = generator(torch.randn(2, 3))
    assert x.shape == (2, 1, side, side + 4)
    assert discriminator(x, torch.eye(3)[:2]).shape == (2,)
    if growth == 1:
        assert {p.shape[0] for p in discriminator.parameters() if p.ndim == 4} == {2}


def test_attention_needs_maps_of_its_side() -> None:
    generator = ResidualGenerator(3, (1, 28, 28), 8, 1, attention=14)
    assert list(generator.attention) == ["0"]
    discriminator = ResidualDiscriminator((1, 28, 28), 8, 1, True, attention=14)
    assert list(discriminator.attention) == ["0"]
    assert discriminator(generator(torch.randn(2, 3))).shape == (2,)
    for build in (
        lambda: ResidualGenerator(3, (1, 28, 28), 8, 1, attention=16),
        lambda: ResidualDiscriminator((1, 28, 28), 8, 1, True, attention=7),
    ):
        with pytest.raises(ValueError, match=r"model\.attention must be 0 or a side of the maps, 14"):
            build()


def test_the_projection_joins_the_output() -> None:
    """Miyato & Koyama 2018, equation 3: the same image, each class."""
    torch.manual_seed(0)
    net = ResidualDiscriminator((1, 8, 8), 4, 1, spectral=False, known=3).double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    net.output.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    c = torch.eye(3, dtype=torch.float64)
    found = net(x.expand(3, -1, -1, -1), c)
    h = seen[0][:1]
    torch.testing.assert_close(found, net.output(h)[0] + (net.embed.weight.T @ h[0]))
