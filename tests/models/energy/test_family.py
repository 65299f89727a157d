"""What holds for every model with an energy; a new one joins with a line in `MODELS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from enumerating import all_images, images
from running import Ended
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, chunks
from gentrain.models.energy.partition import Annealed, Machine, exact
from gentrain.models.energy.rbm import RBM

SPEC = DataSpec((1, 2, 3), levels=2)
SMALL = {
    "hidden": 4,
    "k": 1,
    "persistent": True,
    "chains": 50,
    "centred": True,
    "offset_rate": 0.1,
    "chain_steps": 30,
    "temperatures": 50,
    "ais_chains": 40,
}
MODELS: dict[str, Callable[[DataSpec], RBM]] = {
    "rbm": lambda spec: RBM(spec, **SMALL),  # type: ignore[arg-type]
    "rbm, cd-3": lambda spec: RBM(spec, **{**SMALL, "persistent": False, "k": 3, "centred": False}),  # type: ignore[arg-type]
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, spec: DataSpec = SPEC, seed: int = 0) -> RBM:
    """In float64, with weights and biases that matter."""
    torch.manual_seed(seed)
    model = MODELS[name](spec).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
        model.mu.uniform_(0.1, 0.9)
        model.lam.uniform_(0.1, 0.9)
    return model


def joint(model: RBM) -> Tensor:
    """exp(-E(v, h)) of all states, [2^D, 2^H], by the definition of E."""
    v, h = all_units(model.spec.dims), all_units(model.latent_dim)
    with torch.no_grad():
        return (v @ model.weight.t() @ h.t() + (v @ model.visible)[:, None] + h @ model.hidden).exp()


def all_units(count: int) -> Tensor:
    """[2^count, count]."""
    return all_images(DataSpec((1, 1, count), levels=2)).flatten(1).double()


def near(drawn: Tensor, p: Tensor) -> bool:
    """Whether images drawn may come from p over all images (McDiarmid, once in a million beyond)."""
    n, dims = len(drawn), drawn[0].numel()
    numbers = (drawn.flatten(1).long() * 2 ** torch.arange(dims).flip(0)).sum(1)
    seen = torch.bincount(numbers, minlength=len(p)) / n
    expected = (p * (1 - p) / n).sqrt().sum() / 2
    return bool((seen - p).abs().sum() / 2 < expected + math.sqrt(math.log(1e6) / (2 * n)))


@every_model
def test_probabilities_sum_to_one_and_are_those_of_the_joint(name: str) -> None:
    model, every = made(name), all_images(SPEC)
    log_p, kind = model.log_likelihood(every)
    assert kind == "exact"
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
    states = joint(model)
    torch.testing.assert_close(log_p.exp(), states.sum(1) / states.sum())
    assert log_p.max() - log_p.min() > 1
    assert model.other_estimates(None) == {}


@every_model
def test_log_z_over_visible_and_over_hidden_units_agree(name: str) -> None:
    model = made(name)
    over_both = [exact(model.machine, over).value for over in ("visible", "hidden", "smaller")]
    assert over_both == pytest.approx([joint(model).sum().log().item()] * 3, abs=1e-9)
    wide = RBM(DataSpec((1, 1, 13), levels=2), **{**SMALL, "hidden": 15})  # type: ignore[arg-type] # in parts
    assert exact(wide.machine, "visible").value == pytest.approx(
        exact(wide.machine, "hidden").value, abs=1e-5
    )


@every_model
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_samples_follow_the_probabilities(name: str, temperature: float) -> None:
    model, every = made(name), all_images(SPEC)
    energies = -joint(model).log() / temperature
    p = (-energies).exp().sum(1)
    assert near(model.sample(20_000, temperature), p / p.sum())
    assert len(every) == len(p)


@every_model
def test_completions_follow_the_conditional(name: str) -> None:
    model, every, n = made(name, seed=1), all_images(SPEC), 20_000
    x, known = images(SPEC, 1, seed=2), torch.tensor([[[[True, False, True], [False, False, True]]]])
    p = model.log_likelihood(every)[0].exp() * ((every == x) | ~known).flatten(1).all(1)
    drawn = model.complete(x.expand(n, -1, -1, -1), known.expand(n, -1, -1, -1))
    assert (drawn[known.expand_as(drawn)] == x.expand_as(drawn)[known.expand_as(drawn)]).all()
    assert near(drawn, p / p.sum())


@every_model
def test_annealing_from_both_ends_is_right_within_its_error(name: str) -> None:
    spec = DataSpec((1, 3, 4), levels=2)
    model = made(name, spec)
    truth = exact(model.machine).value
    draw = torch.Generator().manual_seed(0)
    path = Annealed(model.machine, torch.randn(12, generator=draw).double(), 300, draw)
    every = all_images(spec)
    p = model.log_likelihood(every)[0].exp()
    exactly = every[torch.multinomial(p, 2000, replacement=True, generator=draw)].flatten(1).double()
    for found in (path.forward(2000), path.reverse(exactly)):
        assert 0 < found.error < 0.05
        assert abs(found.value - truth) < 4 * found.error
        assert 1000 < found.effective <= 2000
    # One temperature is importance sampling from independent pixels: right in the mean, and far less exact.
    once = Annealed(model.machine, path.base, 1, draw).forward(200_000)
    assert abs(once.value - truth) < 4 * once.error
    assert once.effective / 200_000 < found.effective / 2000
    # Without weights nothing is left to estimate.
    free = Machine(torch.zeros(3, 12).double(), path.base, torch.zeros(3).double())
    assert Annealed(free, path.base, 5, draw).forward(10).value == pytest.approx(exact(free).value, abs=1e-9)


def by_hand(model: RBM, v: Tensor, end: Tensor) -> dict[str, Tensor]:
    """<v h> of the ends minus that of the data, and so on: what contrastive divergence descends."""
    with torch.no_grad():
        h_data, h_end = (torch.sigmoid(u @ model.weight.t() + model.hidden) for u in (v, end))
        w = h_end.t() @ end / len(end) - h_data.t() @ v / len(v)
        b, c = end.mean(0) - v.mean(0), h_end.mean(0) - h_data.mean(0)
        if model.centred:  # Melchior et al. 2016, algorithm 1
            w = w - torch.outer(c, model.mu) - torch.outer(model.lam, b)
            b, c = b - w.t() @ model.lam, c - w @ model.mu
        return {"weight": w, "visible": b, "hidden": c}


@every_model
def test_the_gradient_is_contrastive_divergences(name: str) -> None:
    model, batch = made(name).train(), Batch(images(SPEC, 50))
    loss, terms = model.loss(batch, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    # The chains hold the ends of this step.
    for key, expected in by_hand(model, model.units(batch.x), model.units(model.chain)).items():
        torch.testing.assert_close(model.get_parameter(key).grad, expected)
    torch.testing.assert_close(terms["data"] - terms["chain"], loss.detach())


def test_centred_gradients_are_of_the_centred_machine() -> None:
    """A small step of both biases and weights is one of the machine written with centred units."""
    model, batch = made("rbm").train(), Batch(images(SPEC, 50))
    before = copy.deepcopy(model)
    model.loss(batch, 0)[0].backward()  # type: ignore[no-untyped-call]
    mu, lam = model.mu, model.lam
    v, end = model.units(batch.x), model.units(model.chain)
    with torch.no_grad():
        h_data, h_end = (torch.sigmoid(before.machine.inputs(u)) - lam for u in (v, end))
        of_w = h_end.t() @ (end - mu) / 50 - h_data.t() @ (v - mu) / 50
        for p in model.parameters():
            p.sub_(1e-3 * p.grad)  # type: ignore[operator]
        torch.testing.assert_close(model.weight, before.weight - 1e-3 * of_w)
        # Centred biases: b + W^T lambda and c + W mu.
        moved = (model.visible + lam @ model.weight) - (before.visible + lam @ before.weight)
        torch.testing.assert_close(moved, -1e-3 * (end - v).mean(0))
        moved = (model.hidden + model.weight @ mu) - (before.hidden + before.weight @ mu)
        torch.testing.assert_close(moved, -1e-3 * (h_end.mean(0) - h_data.mean(0)))


@every_model
def test_chains_are_written_in_place_and_while_training_alone(name: str) -> None:
    model, batch = made(name), Batch(images(SPEC, 20))
    where, before = model.chain.data_ptr(), copy.deepcopy(model.state_dict())
    model.loss(batch, 0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train()
    torch.manual_seed(1)
    model.loss(batch, 0)
    assert model.chain.data_ptr() == where
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"chain", "mu", "lam"}
    torch.testing.assert_close(model.mu, 0.9 * before["mu"] + 0.1 * model.units(batch.x).mean(0))
    torch.manual_seed(1)
    start = before["chain"] if model.persistent else batch.x
    assert torch.equal(model.chain[:20], model.gibbs(model.units(start), model.k).to(torch.uint8)[:20])


@every_model
def test_training_brings_the_probabilities_near(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](SPEC).double().train()
    truth = torch.tensor([[1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 0], [1, 0, 1, 0, 1, 0]], dtype=torch.uint8)
    x = truth[torch.arange(60) % 3].view(60, 1, 2, 3)
    model.data_dependent_init(Batch(x))
    nats = [-model.log_likelihood(x)[0].mean().item()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(400):
        optimiser.zero_grad()
        model.loss(Batch(x), step)[0].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    nats.append(-model.log_likelihood(x)[0].mean().item())
    assert nats[0] > 3
    assert nats[1] < 2  # log 3 = 1.1 at best


WIDE = DataSpec((1, 4, 6), levels=2)  # neither layer can be listed


def wide(**settings: object) -> RBM:
    torch.manual_seed(0)
    model = RBM(WIDE, **{**SMALL, "hidden": 22, **settings}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        model.weight.normal_(0, 0.3)
    return model


def test_log_z_is_computed_once_for_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = wide(), images(WIDE, 5)
    made_paths: list[int] = []
    annealed = RBM._annealed
    monkeypatch.setattr(RBM, "_annealed", lambda self, *a: made_paths.append(1) or annealed(self, *a))
    torch.manual_seed(5)
    first, kind = model.log_likelihood(x)
    assert kind == "AIS estimate, 50 temperatures"
    torch.manual_seed(6)
    assert torch.equal(model.log_likelihood(x)[0], first), "a function of the weights"
    assert len(made_paths) == 1
    assert set(model.other_estimates(None)) == {"AIS", "reverse AIS"}
    assert len(made_paths) == 2
    longer, kind = model.log_likelihood(x, samples=400)
    assert kind == "AIS estimate, 400 temperatures"
    assert len(made_paths) == 3
    assert longer[0] != first[0]
    with torch.no_grad():
        model.hidden += 0.1
    assert model.log_likelihood(x)[0][0] != first[0]
    assert len(made_paths) == 4


def test_estimates_from_both_ends_enclose_the_truth() -> None:
    model = wide(hidden=20, temperatures=2000, ais_chains=200, chain_steps=500)
    truth = model.log_z("exact").value
    for how in ("forward", "reverse"):
        found = model.log_z(how, 2000)
        assert abs(found.value - truth) < 4 * found.error + 1e-3
        assert found.error < 0.2


def test_an_estimate_that_hardly_a_chain_carries_is_refused_where_it_is_asked_for() -> None:
    model = wide(temperatures=1)
    with torch.no_grad():
        model.weight.normal_(0, 3)
    x = images(WIDE, 2)
    with pytest.raises(
        ValueError, match=r"samples: .* over 2 temperatures .*\+- .* from 1\.\d of its 40 chains"
    ):
        model.log_likelihood(x, samples=2)
    assert model.log_likelihood(x)[0].isfinite().all(), "while it trains nothing stops"


@every_model
def test_chunks_change_nothing_but_the_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name), images(SPEC, 9)
    whole = model.log_likelihood(x)[0], model.images_to_latents(x)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 600)
    parts = model.log_likelihood(x)[0], model.images_to_latents(x)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert model.sample(5).shape == (5, 1, 2, 3)


def test_latents_are_the_hidden_units_and_go_back() -> None:
    model, x = made("rbm"), all_images(SPEC)
    states = joint(model)
    h = all_units(4)
    torch.testing.assert_close(model.images_to_latents(x), (states / states.sum(1, keepdim=True)) @ h)
    back = model.latents_to_images(h).flatten(1)
    mean = (states / states.sum(0)).t() @ all_units(6)  # E[v | h]
    assert torch.equal(back, (mean > 0.5).to(torch.uint8))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hidden", 0), ("k", 0), ("chains", 0), ("chain_steps", 0), ("temperatures", 0), ("offset_rate", 1.5)],
)
def test_settings_out_of_range_are_named(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .* found"):
        RBM(SPEC, **{**SMALL, setting: value})  # type: ignore[arg-type]


def test_under_autocast_the_energy_is_float32() -> None:
    model, batch = made("rbm").float(), Batch(images(SPEC, 20))
    whole = model.free_energy(model.units(batch.x))
    with torch.autocast("cpu", torch.bfloat16):
        half = model.free_energy(model.units(batch.x))
        assert model.loss(batch, 0)[0].dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.02, atol=0.05)


def test_from_the_command_line(gentrain: Callable[..., Ended], workplace: Path) -> None:
    refused = gentrain("train", "model=rbm", "dataset=digits")
    assert refused.status == 2
    assert "found 17; set dataset.binarize=dynamic, or threshold" in refused.one_line()
    assert not Path("outputs").exists()
    arguments = ["model=rbm", "dataset=digits", "dataset.binarize=threshold", "model.hidden=30"]
    short = ["train.steps=60", "train.eval_every=60", "model.temperatures=40", "model.ais_chains=20"]
    trained = gentrain("train", *arguments, *short, "run_dir=run")
    assert trained.status == 0, trained.err
    measured = gentrain("eval", "ckpt=run", "samples=60")
    assert measured.status == 0, measured.err
    assert (
        "AIS estimate, 60 temperatures, digits test (297 images), 2 levels, binarize=threshold"
        in measured.out
    )
    assert "log Z by AIS +- " in measured.out
    assert "log Z by reverse AIS +- " in measured.out
    completed = gentrain("complete", "ckpt=run", "known=top", "n=2", "out=completed.png")
    assert completed.status == 0, completed.err
