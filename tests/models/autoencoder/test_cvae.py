import pytest
import torch
from enumerating import images, vivid
from latent_variables import MLP

from gentrain.contracts import Batch, DataSpec
from gentrain.models.autoencoder.cvae import CVAE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
TINY = DataSpec(shape=(1, 2, 2), levels=2, classes=3)
FACES = DataSpec(shape=(1, 2, 2), levels=2, attributes=("Male", "Eyeglasses"))
TOLD = DataSpec(shape=(1, 2, 2), levels=2, vocabulary=("a", "red", "cat"), caption_length=3)


def cvae(spec=DIGITS, **settings):
    return CVAE(spec, **{**MLP, **settings})


@pytest.mark.parametrize(
    ("spec", "given", "vectors"),
    [
        (TINY, [2, 0, 1, 2], [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (
            FACES,
            [[True, False], [False, False], [False, True], [True, True]],
            [[1, 0], [0, 0], [0, 1], [1, 1]],
        ),
        (TOLD, [[1, 2, 3], [3, 3, 0], [0, 0, 0], [2, 1, 2]], [[1, 1, 1], [0, 0, 2], [0, 0, 0], [1, 2, 0]]),
    ],
    ids=["label", "attributes", "caption"],
)
def test_the_loss_is_minus_the_elbo_given_the_condition(spec, given, vectors):
    torch.manual_seed(0)
    model = vivid(cvae(spec), gain=1.5)
    x = images(spec, 4)
    batch = Batch(x)._replace(**{model.condition.name: torch.tensor(given)})
    torch.manual_seed(1)
    loss, terms = model.loss(batch, 0)
    torch.manual_seed(1)
    y = torch.tensor(vectors, dtype=torch.float64)
    channel = model.encoder.embedding(y)
    mu, log_sigma = model.encoder.encoder(torch.cat([2.0 * x - 1, channel], 1)).chunk(2, 1)
    sigma = (7 * torch.tanh(log_sigma / 7)).exp()
    z = mu + sigma * torch.randn_like(mu)
    logits = model.decoder.decoder(torch.cat([z, y], 1))
    reconstruction = -torch.distributions.Bernoulli(logits=logits).log_prob(x.double()).flatten(1).sum(1)
    kl = -0.5 * (1 + sigma.square().log() - mu.square() - sigma.square()).sum(1)
    torch.testing.assert_close(loss, (reconstruction + kl).mean())
    torch.testing.assert_close(terms["kl"], kl.mean())


def test_other_mistakes_are_refused():
    model = cvae()
    x = images(DIGITS, 2)
    for work in (lambda: model.log_likelihood(x), lambda: model.loss(Batch(x), 0)):
        with pytest.raises(ValueError, match="needs the label of every image"):
            work()
    with pytest.raises(ValueError, match=r"^dataset: .*neither labels nor attributes.*model=vae"):
        cvae(DataSpec(shape=(1, 8, 8), levels=17))
    for setting, value in (("latent_dim", 0), ("hidden", []), ("network", "unet"), ("mixtures", 0)):
        with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
            cvae(**{setting: value})
