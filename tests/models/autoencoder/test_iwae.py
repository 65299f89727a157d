import pytest
import torch
from enumerating import images, vivid
from latent_variables import DIGITS, TINY, vae
from surviving import survives
from torch.distributions import Bernoulli, Normal

from gentrain.contracts import Batch, DataSpec
from gentrain.models.autoencoder.iwae import IWAE

ONE = {"latents": [3], "hidden": [[8, 7]]}
TWO = {"latents": [4, 3], "hidden": [[8, 7], [6, 5]]}
THREE = {"latents": [4, 3, 2], "hidden": [[8], [6], [5]]}
DEPTHS = pytest.mark.parametrize("layers", [ONE, TWO, THREE], ids=["1", "2", "3"])


def iwae(spec=DIGITS, **settings):
    defaults = {
        "activation": "tanh",
        "k": 5,
        "warmup_k": 1,
        "warmup_steps": 0,
        "one_backward": False,
        "likelihood": "auto",
        "mixtures": 2,
        "sample_pixels": False,
    }
    return IWAE(spec, **defaults | TWO | settings)


# The log weights and the bound


def by_hand(model, x, k):
    """log p(x, h) - log q(h|x) of two stochastic layers, [k, B]; [1] equations 1, 5 and 8."""

    def normal(outputs):
        mu, s = outputs.chunk(2, -1)
        return Normal(mu, (7 * torch.tanh(s / 7)).exp())

    q1 = normal(model.encoder(2.0 * x.double() / (model.spec.levels - 1) - 1))
    h1 = q1.mean + q1.stddev * torch.randn(k, *q1.mean.shape, dtype=torch.float64)
    q2 = normal(model.up[0](h1))
    h2 = q2.mean + q2.stddev * torch.randn_like(q2.mean)
    p1 = normal(model.down[0](h2))
    log_x = torch.stack(
        [Bernoulli(logits=model.decoder(h)).log_prob(x.double()).flatten(1).sum(1) for h in h1]
    )
    log_p = log_x + p1.log_prob(h1).sum(-1) + Normal(0.0, 1.0).log_prob(h2).sum(-1)
    return log_p - q1.log_prob(h1).sum(-1) - q2.log_prob(h2).sum(-1)


def test_log_weights_of_two_layers_by_hand():
    torch.manual_seed(0)
    model = vivid(iwae(TINY), gain=1.3)
    x = images(TINY, 5)
    torch.manual_seed(1)
    found = model.log_weights(x, model._posterior(x), 4)
    torch.manual_seed(1)
    expected = by_hand(model, x, 4)
    assert found.shape == (4, 5)
    torch.testing.assert_close(found, expected)
    direction = torch.randn(4, 5, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((w * direction).sum(), list(model.parameters())) for w in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):  # through every draw and every factor
        torch.testing.assert_close(one, other)
    torch.manual_seed(1)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(1)
    log_w = by_hand(model, x, 5)
    torch.testing.assert_close(loss, -(log_w.exp().mean(0).log()).mean())
    torch.testing.assert_close(terms["reconstruction"] + terms["kl"], -log_w.mean())


def test_log_weights_of_one_layer_are_the_vaes():
    torch.manual_seed(0)
    model = vivid(iwae(**ONE), gain=1.2)
    plain = vae(hidden=[8, 7]).double()
    plain.load_state_dict(model.state_dict())
    x = images(DIGITS, 4)
    found = []
    for m in (model, plain):
        torch.manual_seed(1)
        found.append(m.log_weights(x, m._posterior(x), 6))
    torch.testing.assert_close(*found)


@DEPTHS
def test_the_gradient_is_that_of_the_log_weights_under_the_normalised_detached_weights(layers):
    """Equation 14; neither a softmax over losses, nor weights that are differentiated, nor the plain mean."""
    torch.manual_seed(0)
    model = vivid(iwae(TINY, k=7, **layers), gain=1.3)
    x = images(TINY, 5)
    torch.manual_seed(1)
    model.loss(Batch(x), 0)[0].backward()
    torch.manual_seed(1)
    log_w = model.log_weights(x, model._posterior(x), 7)
    w = log_w.detach().exp()
    weighted = -(w / w.sum(0) * log_w).sum(0).mean()
    mean = -log_w.mean()
    by_weights = torch.autograd.grad(weighted, list(model.parameters()), retain_graph=True)
    by_mean = torch.autograd.grad(mean, list(model.parameters()))
    for p, expected, other in zip(model.parameters(), by_weights, by_mean, strict=True):
        torch.testing.assert_close(p.grad, expected)
        assert (p.grad - other).abs().max() > 1e-4
    assert w.std(0).min() > 0


@pytest.mark.slow
@DEPTHS
def test_one_backward_gives_the_same_loss_and_on_average_the_same_gradient(layers):
    torch.manual_seed(0)
    model = vivid(iwae(TINY, k=7, **layers), gain=1.3)
    x = images(TINY, 2)
    gradients = {}
    for one in (False, True):
        model.one_backward = one
        torch.manual_seed(1)
        found = []
        for _ in range(1500 if one else 150):
            model.zero_grad()
            loss, _ = model.loss(Batch(x), 0)
            loss.backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        gradients[one] = torch.stack(found)
    means = [g.mean(0) for g in gradients.values()]
    errors = [g.std(0) / len(g) ** 0.5 for g in gradients.values()]
    error = (errors[0].square() + errors[1].square()).sqrt() + 1e-6
    assert ((means[0] - means[1]) / error).abs().max() < 5.5
    # The plain mean over draws, which a uniform choice would give, is another gradient.
    torch.manual_seed(1)
    log_w = model.log_weights(x.repeat(2000, 1, 1, 1), model._posterior(x.repeat(2000, 1, 1, 1)), 7)
    plain = torch.autograd.grad(-log_w.mean(), list(model.parameters()))
    plain = torch.cat([p.flatten() for p in plain])
    assert ((plain - means[1]) / error).abs().max() > 8


@DEPTHS
@pytest.mark.parametrize("autocast", [False, True])
def test_one_backward_is_the_gradient_of_a_draw_that_was_made(layers, autocast):
    """Where all draws are the same there is nothing to choose, and the two agree."""
    torch.manual_seed(0)
    model = iwae(TINY, k=2, **layers)
    x = images(TINY, 3)
    losses, gradients = [], []
    for one in (False, True):
        model.one_backward = one
        model.zero_grad()
        torch.manual_seed(2)
        model._noise = lambda k, x: [torch.randn(1, len(x), d).expand(k, -1, -1) for d in model.latents]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, _ = model.loss(Batch(x), 0)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in model.parameters()])
    assert losses[0] == losses[1]
    for whole, one in zip(*gradients, strict=True):
        near = {"rtol": 0.05, "atol": 1e-2} if autocast else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(one, whole, **near)
        assert whole.abs().max() > 0


def test_one_backward_keeps_no_graph_of_the_other_draws():
    model = iwae(k=6, one_backward=True)
    seen = []
    model.decoder.register_forward_hook(lambda _m, _i, out: seen.append((len(out), out.requires_grad)))
    model.loss(Batch(images(DIGITS, 4)), 0)
    assert seen == [(24, False), (4, True)]
    with torch.no_grad():  # as in validation
        assert not model.loss(Batch(images(DIGITS, 4)), 0)[0].requires_grad


def test_k_changes_the_loss():
    torch.manual_seed(0)
    model = vivid(iwae(TINY), gain=1.3)
    x = images(TINY, 1).repeat(4000, 1, 1, 1)
    found = {}
    for k in (1, 10):
        model.k = k
        torch.manual_seed(0)
        loss, terms = model.loss(Batch(x), 0)
        found[k] = loss.item()
        assert 1 <= terms["effective_samples"] <= k
        assert not any(term.requires_grad for term in terms.values())
    assert found[10] < found[1] - 0.05


def test_the_decoder_runs_once_over_all_draws():
    model = iwae(k=6)
    sizes = []
    model.decoder.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    model.loss(Batch(images(DIGITS, 4)), 0)
    assert sizes == [24]


def test_the_first_steps_take_fewer_draws():
    model = iwae(k=6, warmup_k=2, warmup_steps=3)
    sizes = []
    model.decoder.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    for step in range(5):
        model.loss(Batch(images(DIGITS, 4)), step)
    assert sizes == [8, 8, 8, 24, 24]


def test_effective_samples():
    model = iwae(k=4)
    x = images(DIGITS, 3)
    log_w = torch.tensor([[0.0, 0.0, 50.0], [0.0, 0.0, 0.0], [0.0, -99.0, 0.0], [0.0, -99.0, 0.0]])
    model._negative_log_weights = lambda *_: (-log_w, torch.zeros_like(log_w))
    _, terms = model.loss(Batch(x), 0)
    assert terms["effective_samples"].item() == pytest.approx((4 + 2 + 1) / 3)


# Latents and samples


@DEPTHS
def test_latents_of_an_image_lead_back_to_the_mean_of_the_first_layer(layers):
    torch.manual_seed(0)
    model = vivid(iwae(**layers), gain=1.2)
    x = images(DIGITS, 4)
    z = model.images_to_latents(x)
    assert z.shape == (4, model.latent_dim) == (4, sum(layers["latents"]))
    assert model.latent_prior == "gaussian"
    seen = []
    model.decoder.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    made = model.latents_to_images(z)
    torch.testing.assert_close(seen[-1], model._posterior(x).mean)
    assert (made.dtype, made.shape) == (torch.uint8, x.shape)


# Construction


def test_the_networks_are_the_papers():
    model = iwae(DataSpec(shape=(1, 28, 28), levels=2), latents=[100, 50], hidden=[[200, 200], [100, 100]])

    def sizes(net):
        return [list(m.weight.shape) for m in net.modules() if hasattr(m, "weight")]

    assert sizes(model.encoder) == [[200, 784], [200, 200], [200, 200]]  # 100 means, 100 deviations
    assert sizes(model.up) == [[100, 100], [100, 100], [100, 100]]  # 50 and 50
    assert sizes(model.down) == [[100, 50], [100, 100], [200, 100]]
    assert sizes(model.decoder) == [[200, 100], [200, 200], [784, 200]]


def test_three_layers_survive():
    survives(lambda: iwae(k=3, **THREE), Batch(images(DIGITS, 8)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("k", 0),
        ("warmup_k", 0),
        ("warmup_k", 6),
        ("warmup_steps", -1),
        ("latents", []),
        ("latents", [4, 0]),
        ("hidden", [[8]]),
        ("hidden", [[8], []]),
        ("hidden", [[8], [0]]),
        ("activation", "sine"),
        ("likelihood", "gauss"),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
        iwae(**{setting: value})
