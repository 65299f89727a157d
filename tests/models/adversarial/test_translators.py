"""Pix2Pix and CycleGAN: their networks' sizes, what each turn moves, the pool, and a map that is learnt."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from gentrain import build
from gentrain.contracts import Batch, DataSpec, GenerativeModel
from gentrain.errors import UserError
from gentrain.layers.past_images import PastImages
from gentrain.layers.patch_discriminator import PatchDiscriminator
from gentrain.layers.residual_generator import ResidualGenerator
from gentrain.layers.unet import UNet
from gentrain.models.adversarial.cyclegan import _there_and_back

SPEC = DataSpec((3, 16, 16), source_shape=(1, 16, 16), paired=True)
TWO = DataSpec((1, 8, 8), source_shape=(1, 8, 8), paired=False)
SMALL = ["model.channels=4", "model.patch_channels=4"]


def pix2pix(*more: str, spec: DataSpec = SPEC) -> Any:
    torch.manual_seed(0)
    return build(["model=pix2pix", *SMALL, *more], spec)


def cyclegan(*more: str, spec: DataSpec = TWO) -> Any:
    torch.manual_seed(0)
    return build(["model=cyclegan", *SMALL, "model.blocks=1", *more], spec)


def batch_of(spec: DataSpec, n: int = 4, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    assert spec.source_shape is not None
    x, source = (
        torch.randint(0, 256, (n, *s), generator=draw, dtype=torch.uint8)
        for s in (spec.shape, spec.source_shape)
    )
    return Batch(x, source=source)


def test_networks_of_the_papers_sizes_have_as_many_parameters() -> None:
    """Of their code at 256 pixels: U-Net 54.4 million, D of pairs 2.77; ResNet with 9 blocks 11.4, D 2.76."""

    def count(net: torch.nn.Module) -> float:
        return sum(p.numel() for p in net.parameters()) / 1e6

    with torch.device("meta"):
        assert count(UNet(3, 3, (256, 256), 64, 0.5)) == pytest.approx(54.4, rel=0.01)
        assert count(PatchDiscriminator(6, 64, 3)) == pytest.approx(2.77, rel=0.01)
        assert count(ResidualGenerator(3, 3, 64, 9)) == pytest.approx(11.4, rel=0.01)
        assert count(PatchDiscriminator(3, 64, 3)) == pytest.approx(2.76, rel=0.01)


@pytest.mark.parametrize(("depth", "field"), [(1, 16), (2, 34), (3, 70)])
def test_the_field_of_a_patch_is_the_papers(depth: int, field: int) -> None:
    net = PatchDiscriminator(1, 2, depth).double()
    assert net.field == field
    for module in list(net.net):  # which sees the whole image
        if isinstance(module, torch.nn.InstanceNorm2d):
            net.net[list(net.net).index(module)] = torch.nn.Identity()
    x = torch.randn(1, 1, 3 * field, 3 * field, dtype=torch.float64, requires_grad=True)
    out = net(x)
    middle = out[0, 0, out.shape[2] // 2, out.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, x)
    seen = (gradient[0, 0].abs().sum(0) > 0).nonzero().flatten()
    assert int(seen.max() - seen.min()) + 1 == field
    least = PatchDiscriminator(1, 2, depth).least
    assert net(torch.zeros(1, 1, least, least, dtype=torch.float64)).numel() >= 1
    PatchDiscriminator(1, 2, depth)(torch.zeros(2, 1, least, least))


@pytest.mark.parametrize("size", [(8, 8), (16, 20), (28, 28), (31, 17), (64, 8)])
def test_a_unet_gives_back_the_size(size: tuple[int, int]) -> None:
    net = UNet(1, 3, size, 4, 0.5)
    made = net(torch.randn(2, 1, *size))
    assert made.shape == (2, 3, *size)
    net.eval()
    x = torch.randn(3, 1, *size)
    assert not torch.equal(net(x), net(x)), "dropped in eval mode too"
    net.always = False
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), msg="an image depends on its own source alone")


def changed(model: GenerativeModel, before: dict[str, Tensor]) -> set[str]:
    return {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("make", [pix2pix, cyclegan])
def test_a_turn_moves_its_own_players_alone(make: Any) -> None:
    model = make()
    spec = model.spec
    own = {"pix2pix": {"generator": {"generator"}, "discriminator": {"discriminator"}}}.get(
        make.__name__,
        {"generator": {"to_a", "to_b"}, "discriminator": {"of_a", "of_b", "past_a", "past_b"}},
    )
    for turn in model.turns():
        model.zero_grad(set_to_none=True)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD(turn.parameters(), 0.1)
        turn.loss(batch_of(spec), 0)[0].backward()
        optimizer.step()
        assert changed(model, before) == own[turn.name]
        for name, p in model.named_parameters():
            if turn.name == "discriminator":
                assert (p.grad is None) == (name.split(".")[0] not in own[turn.name]), name
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for turn in model.turns():
        turn.loss(batch_of(spec), 0)
    assert not changed(model, before), "in eval mode a loss changes nothing"


def test_pix2pix_minimises_what_the_paper_says() -> None:
    model = pix2pix("model.noise=false", "model.dropout=0", "model.l1_weight=7").double()
    batch = batch_of(SPEC)
    loss, terms = model.generator_loss(batch, 0)
    x, s = model.scaled(batch.x), model.scaled(batch.source)
    y = model.generator(s)
    fooled = torch.nn.functional.softplus(-model.discriminator(y, s)).mean()
    torch.testing.assert_close(loss, fooled + 7 * (x - y).abs().mean())
    torch.testing.assert_close(terms["l1"], (x - y).abs().mean().detach())
    alone = pix2pix("model.adversarial=false", "model.noise=false", "model.dropout=0").double()
    alone.generator.load_state_dict(model.generator.state_dict())
    (turn,) = alone.turns()
    torch.testing.assert_close(turn.loss(batch, 0)[0], (x - y).abs().mean())
    assert alone.merit == "loss"
    assert model.merit is None


def test_the_judge_sees_image_and_source_augmented_alike() -> None:
    model = pix2pix("model.augment=[translation]")
    spec = DataSpec((1, 16, 16), source_shape=(1, 16, 16), paired=True)
    model = pix2pix("model.augment=[translation]", spec=spec)
    image = torch.rand(8, 1, 16, 16)
    moved, beside = model._augmented((image, image.clone()))
    assert torch.equal(moved, beside)
    assert not torch.equal(moved, image)


def test_cyclegan_minimises_what_the_paper_says() -> None:
    model = cyclegan("model.identity_weight=0.5", "model.cycle_weight=3").double()
    batch = batch_of(TWO)
    a, b = model.scaled(batch.source), model.scaled(batch.x)
    fake_a, fake_b = model.to_a(b), model.to_b(a)
    fooled = sum((net(y) - 1).square().mean() / 2 for net, y in ((model.of_a, fake_a), (model.of_b, fake_b)))
    cycle = (model.to_a(fake_b) - a).abs().mean() + (model.to_b(fake_a) - b).abs().mean()
    same = (model.to_b(b) - b).abs().mean() + (model.to_a(a) - a).abs().mean()
    loss, _ = model.generator_loss(batch, 0)
    torch.testing.assert_close(loss, fooled + 3 * cycle + 1.5 * same)
    judged, _ = model.discriminator_loss(batch, 0)  # the pools are empty: new fakes are shown
    expected = sum(
        (net(real) - 1).square().mean() / 2 + net(fake).square().mean() / 2
        for net, real, fake in ((model.of_a, a, fake_a), (model.of_b, b, fake_b))
    )
    torch.testing.assert_close(judged, expected)


@pytest.mark.parametrize(("cycle", "forward"), [(3.0, 0.5), (3.0, 0.0), (0.0, 1.0)])
def test_either_way_there_and_back_has_its_weight(cycle: float, forward: float) -> None:
    """By hand, gradients too; the logged sum is of both ways, whatever they weigh."""
    model = cyclegan(f"model.cycle_weight={cycle}", f"model.forward_cycle={forward}").double()
    batch = batch_of(TWO)
    a, b = model.scaled(batch.source), model.scaled(batch.x)
    fake_a, fake_b = model.to_a(b), model.to_b(a)
    fooled = sum((net(y) - 1).square().mean() / 2 for net, y in ((model.of_a, fake_a), (model.of_b, fake_b)))
    forth, back = (model.to_a(fake_b) - a).abs().mean(), (model.to_b(fake_a) - b).abs().mean()
    expected = fooled + cycle * forward * forth + cycle * back
    loss, terms = model.generator_loss(batch, 0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms["cycle"], (forth + back).detach())
    learnt = [*model.to_a.parameters(), *model.to_b.parameters()]
    for found, wanted in zip(*(torch.autograd.grad(x, learnt) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("weight", ["model.forward_cycle=0", "model.cycle_weight=0"])
def test_what_is_only_shown_costs_no_weight_its_gradient(weight: str) -> None:
    """Under autocast too, which keeps weights in bf16 that it has cast without gradients."""
    model = cyclegan(weight)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = model.generator_loss(batch_of(TWO), 0)
    loss.backward()
    for net in (model.to_a, model.to_b):
        for name, p in net.named_parameters():
            assert p.grad is not None, name
    x = model.scaled(batch_of(TWO).x)
    with torch.no_grad():
        assert not _there_and_back(x, model.to_a(x), model.to_b, learn=True).requires_grad


def test_the_pool_shows_new_images_and_past_ones() -> None:
    torch.manual_seed(0)
    pool = PastImages(5, (1, 1, 1))
    new = torch.arange(200.0).view(40, 5, 1, 1, 1)
    shown = [pool(part) for part in new]
    assert torch.equal(shown[0], new[0]), "until it is full"
    assert sorted(pool.images.flatten().tolist()) != [0, 1, 2, 3, 4]
    rest = torch.cat(shown[1:]).flatten()
    own = torch.cat(list(new[1:])).flatten()
    assert 0.35 < (rest == own).double().mean() < 0.65
    assert ((rest <= own) & (rest >= 0)).all(), "what is shown has been made"
    assert len(rest[rest != own].unique()) == (rest != own).sum(), "a past image leaves when it is shown"
    before = copy.deepcopy(pool.state_dict())
    pool.eval()
    assert torch.equal(pool(new[0]), new[0])
    assert all(torch.equal(value, before[name]) for name, value in pool.state_dict().items())
    assert torch.equal(PastImages(0, (1, 1, 1))(new[0]), new[0])


@pytest.mark.slow
def test_cyclegan_learns_a_known_map() -> None:
    """Images that are half dark above, half dark to the left: A is B with light and dark changed by a
    constant.
    """
    torch.manual_seed(1)
    model = cyclegan("model.identity_weight=0.5")
    optimizers = {t.name: torch.optim.Adam(t.parameters(), 3e-3, betas=(0.5, 0.999)) for t in model.turns()}

    def drawn(n: int) -> Tensor:
        level = torch.randint(0, 100, (n, 1, 1, 1))
        half = torch.zeros(2, 1, 8, 8, dtype=torch.int64)
        half[0, :, :4], half[1, :, :, :4] = 60, 60
        return (level + half[torch.randint(2, (n,))]).to(torch.uint8)

    for step in range(120):
        batch = Batch(drawn(16) + 80, source=drawn(16))
        for turn in model.turns():
            optimizers[turn.name].zero_grad()
            turn.loss(batch, step)[0].backward()
            optimizers[turn.name].step()
    model.eval()
    source = drawn(50)
    made, truth = model.translate(source).double(), source.double() + 80
    assert (made - truth).abs().mean() < 0.5 * (source.double() - truth).abs().mean()


def of_size(shape: tuple[int, int, int], source: tuple[int, int, int], paired: bool) -> DataSpec:
    return DataSpec(shape, source_shape=source, paired=paired)


ONE = DataSpec((1, 16, 16))
REFUSED = {
    "no partners": (pix2pix, [], ONE, "its images have no partners"),
    "unpaired": (pix2pix, [], TWO, "its two domains are not paired"),
    "another size": (pix2pix, [], of_size((1, 16, 16), (1, 4, 4), True), "of 16x16 pixels have"),
    "small": (pix2pix, [], of_size((1, 4, 4), (1, 4, 4), True), "at least 8x8 pixels"),
    "a patch too large": (
        pix2pix,
        ["model.patch_depth=3"],
        SPEC,
        r"at least \d+ pixels, found 16x16",
    ),
    "a penalty": (pix2pix, ["model.objective=wgan_gp"], SPEC, "wgan_gp has a penalty"),
    "dropout": (pix2pix, ["model.dropout=1"], SPEC, r"model\.dropout must be"),
    "one domain": (cyclegan, [], ONE, "its images are of one domain"),
    "sides": (cyclegan, [], of_size((1, 9, 9), (1, 9, 9), False), "multiples of 4 from 8 up"),
    "identity": (
        cyclegan,
        ["model.identity_weight=1"],
        of_size((1, 8, 8), (3, 8, 8), False),
        "images of 3 and of 1 channels",
    ),
    "a large patch": (cyclegan, ["model.patch_depth=2"], TWO, r"set model\.patch_depth=1"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_the_networks_cannot_take_is_refused(why: str) -> None:
    make, more, spec, reason = REFUSED[why]
    with pytest.raises(UserError, match=reason):
        make(*more, spec=spec)


def test_light_that_has_become_dark_is_said() -> None:
    model = cyclegan()
    assert model.warnings({"loss/generator/alike_b": 0.3}) == []
    (line,) = model.warnings({"loss/generator/alike_b": -0.9})
    assert "model.identity_weight=0.5" in line
