import math

import pytest
import torch
from flows import check_transform, values, vivid
from torch import nn

from gentrain.layers.coupling import CheckerboardMask, Coupling, TanhScale
from gentrain.layers.gaussian_prior import ConditionalPrior, StandardPrior, TopPrior
from gentrain.layers.multiscale import MultiScale, check_halvable
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Shift


def net(channels_in, channels_out):
    return nn.Sequential(nn.Conv2d(channels_in, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, channels_out, 1))


def squeezed(index, shape):
    """RealNVP's: a coupling on positions, then a squeeze; none at the last scale."""
    channels, height, width = shape
    coupling = Coupling(channels, net, TanhScale, CheckerboardMask(odd=index % 2 == 1))
    if index == 2:
        return coupling, shape
    return Chain([coupling, Squeeze()]), (4 * channels, height // 2, width // 2)


PRIORS = [(ConditionalPrior, TopPrior), (lambda *_: StandardPrior(), lambda *_: StandardPrior())]


@pytest.mark.parametrize("priors", PRIORS, ids=["learnt", "standard"])
@pytest.mark.parametrize("shape", [(1, 4, 8), (3, 4, 4)])
def test_round_trip_and_log_determinant(shape, priors):
    torch.manual_seed(0)
    flow = MultiScale(shape, 3, squeezed, *priors)
    assert sum(math.prod(latents) for latents in flow.latent_shapes) == math.prod(shape)
    assert [latents[1:] for latents in flow.latent_shapes] == [
        (shape[1] // 2, shape[2] // 2),
        *[(shape[1] // 4, shape[2] // 4)] * 2,
    ]
    check_transform(vivid(flow, std=0.2), values(2, *shape))


def test_what_leaves_first_does_not_depend_on_later_scales():
    torch.manual_seed(0)
    flow = vivid(MultiScale((1, 4, 4), 2, squeezed, *PRIORS[1]))
    x = values(3, 1, 4, 4)
    first = math.prod(flow.latent_shapes[0])
    before = flow(x)[0]
    with torch.no_grad():
        for p in flow.scales[1].parameters():
            p.add_(1)
    after = flow(x)[0]
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.equal(before[:, first:], after[:, first:])


def test_a_shift_is_a_transform():
    check_transform(Chain([Shift(-0.5)]), values(3, 2, 2))


def test_sizes_that_can_be_halved():
    check_halvable(12, 8, 2)
    with pytest.raises(ValueError, match=r"12x6.*model\.scales=2 needs sides that 4 divides; set dataset"):
        check_halvable(12, 6, 2)
