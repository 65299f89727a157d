"""RealNVP: which couplings stand where, and images of sizes that do not fit."""

from __future__ import annotations

import pytest
import torch
from flows import values, vivid

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.actnorm import ActNorm, DataInitialised
from gentrain.layers.coupling import ChannelMask, CheckerboardMask, Coupling
from gentrain.layers.gaussian_prior import StandardPrior
from gentrain.layers.multiscale import MultiScale
from gentrain.layers.squeeze import Squeeze
from gentrain.models.flow.realnvp import RealNVP, ResidualNet

SMALL = {
    "scales": 2,
    "hidden": 3,
    "blocks": 1,
    "logit": 1e-5,
    "label_by": "none",
    "dequantisation": "uniform",
}


def realnvp(shape: tuple[int, int, int] = (1, 4, 4), **settings: object) -> RealNVP:
    torch.manual_seed(0)
    return RealNVP(DataSpec(shape, levels=5), **{**SMALL, **settings})  # type: ignore[arg-type]


def of(model: RealNVP) -> MultiScale:
    found = model.transform.get_submodule("transforms.1.transforms.1")
    assert isinstance(found, MultiScale)
    return found


def test_couplings_are_the_papers() -> None:
    """Three on positions, a squeeze, three on channels; four on positions at last (section 3.6)."""
    model = realnvp((1, 8, 8), scales=3)
    assert of(model).latent_shapes == [(2, 4, 4), (4, 2, 2), (4, 2, 2)]
    assert all(isinstance(prior, StandardPrior) for prior in of(model).priors)
    for index, scale in enumerate(of(model).scales):
        kinds = [type(module) for module in scale.get_submodule("transforms")]  # type: ignore[operator]
        pair = [Coupling, ActNorm]
        assert kinds == (4 * pair if index == 2 else 3 * pair + [Squeeze] + 3 * pair)
        masks = [module.mask for module in scale.modules() if isinstance(module, Coupling)]
        colours = [mask.odd for mask in masks if isinstance(mask, CheckerboardMask)]
        halves = [mask.second for mask in masks if isinstance(mask, ChannelMask)]
        assert colours == [False, True, False, True][: len(colours)]
        assert halves == ([] if index == 2 else [False, True, False])
        widths = {net.first.weight.shape[0] for net in scale.modules() if isinstance(net, ResidualNet)}
        assert widths == ({12} if index == 2 else {3 * 2**index, 3 * 2 ** (index + 1)})


def test_every_value_reaches_every_latent() -> None:
    model = vivid(realnvp(logit=None), std=0.2)
    assert isinstance(model, RealNVP)
    y = values(1, 1, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda t: model.to_latent(t)[0][0], y).flatten(1)
    assert (jacobian.abs() > 1e-12).all()


def test_a_network_starts_at_zero_and_its_norms_from_the_first_batch() -> None:
    model = realnvp().double()
    net = ResidualNet(2, 3, 4, blocks=2, known=0)
    assert not net(torch.randn(2, 2, 4, 4)).any()
    x = torch.randint(0, 5, (64, 1, 4, 4), dtype=torch.uint8)
    model.data_dependent_init(Batch(x))
    norms = [module for module in model.modules() if isinstance(module, DataInitialised)]
    assert norms
    assert all(norm.initialised for norm in norms)
    z, _ = model.to_latent(model.dequantise(x))
    assert z.mean().abs() < 0.3
    assert 0.5 < z.std() < 2


@pytest.mark.parametrize(
    ("shape", "scales", "ways"),
    [
        ((1, 28, 28), 4, ["model.scales=3", "dataset.image_size=24", "32"]),
        ((3, 7, 7), 2, ["model.scales=1", "dataset.image_size=6", "8"]),
        ((1, 3, 3), 3, ["model.scales=1", "dataset.image_size=4"]),
    ],
)
def test_sizes_that_cannot_be_halved_so_often_say_what_would_do(
    shape: tuple[int, int, int], scales: int, ways: list[str]
) -> None:
    with pytest.raises(
        ValueError, match=rf"images are {shape[1]}x{shape[2]}.*model\.scales={scales}"
    ) as error:
        realnvp(shape, scales=scales)
    advice = str(error.value).partition("set ")[2]
    assert all(way in advice for way in ways)
    largest = int(ways[0].rpartition("=")[2])
    realnvp(shape, scales=largest)
    with pytest.raises(ValueError, match="images are"):
        realnvp(shape, scales=largest + 1)


@pytest.mark.parametrize("setting", ["scales", "hidden", "blocks"])
def test_settings_out_of_range_are_named(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be at least 1, found 0"):
        realnvp(**{setting: 0})
