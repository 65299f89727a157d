"""A variational autoencoder trained with a weighted KL: beta and free bits.

[1] Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed & Lerchner 2017, "beta-VAE: Learning Basic
    Visual Concepts with a Constrained Variational Framework", ICLR 2017.
[2] Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016, "Improving Variational Inference with
    Inverse Autoregressive Flow", arXiv:1606.04934.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder.vae import VAE, kl_from_standard, start_of_pixels


class BetaVAE(VAE):
    """A VAE that trains on reconstruction + beta * (KL, floored at the free bits) [1, 2].

    The weights are the training loss's alone: `log_likelihood` is the VAE's own bound, whatever they are.

    Args:
        spec: what the images are.
        network: one of `layers.encoder_decoder.NETWORKS`.
        latent_dim: D, the number of latent dimensions.
        beta: weight of the KL, [1] equation 4.
        free_bits: lambda in [2] appendix C.8, in nats: below this a latent dimension's KL, averaged
            over the batch, costs nothing more.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers, the decoder has them in reverse; conv: one
            number, the units of the linear layer between feature maps and latents.
        activation: one of `layers.activation.ACTIVATIONS`.
        dropout: conv: probability with which an input of the encoder's linear layers is zeroed in training.
        likelihood: p(x|z), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|z) or takes their mean.

    Raises:
        ValueError: a setting out of its range, or images too small for the network.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        latent_dim: int,
        beta: float,
        free_bits: float,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latent_dim", latent_dim)
        for setting, value in (("beta", beta), ("free_bits", free_bits)):
            if value < 0:
                raise ValueError(f"model.{setting} must be at least 0, found {value}")
        networks = encoder_decoder(
            network,
            spec.shape,
            codes=2 * latent_dim,
            latents=latent_dim,
            start=start_of_pixels(spec, likelihood, mixtures),
            channels=channels,
            hidden=hidden,
            activation_name=activation,
            dropout=dropout,
            black_is_zero=True,
        )
        super().__init__(
            spec,
            latent_dim=latent_dim,
            networks=networks,
            likelihood=likelihood,
            mixtures=mixtures,
            sample_pixels=sample_pixels,
        )
        self.beta = beta
        self.free_bits = free_bits

    def weighted_kl(self, kl: Tensor) -> Tensor:
        """KL per image and dimension, [B, D] -> beta * sum_j max(free_bits, mean over the batch of KL_j)."""
        return self.beta * kl.mean(0).clamp_min(self.free_bits).sum()

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction + weighted KL, in nats per image, averaged over the batch.

        Both KLs are logged: the plain one makes -ELBO with the reconstruction, the weighted one the loss.
        """
        q = self._posterior(batch.x)
        reconstruction = -self._likelihood(q.rsample()).log_prob(batch.x).mean()
        kl = kl_from_standard(q)
        weighted_kl = self.weighted_kl(kl)
        terms = {"reconstruction": reconstruction, "kl": kl.sum(1).mean(), "weighted_kl": weighted_kl}
        return reconstruction + weighted_kl, {name: term.detach() for name, term in terms.items()}
