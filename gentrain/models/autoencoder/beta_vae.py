"""A variational autoencoder trained with a weighted KL: beta and free bits.

[1] Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed & Lerchner 2017, "beta-VAE: Learning Basic
    Visual Concepts with a Constrained Variational Framework", ICLR 2017.
[2] Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016, "Improving Variational Inference with
    Inverse Autoregressive Flow", arXiv:1606.04934.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.gaussian import kl_from_standard
from gentrain.models.autoencoder.vae import VAE


class BetaVAE(VAE):
    """A VAE that trains on reconstruction + beta * (KL, floored at the free bits) [1, 2].

    The weights are the training loss's alone: `log_likelihood` is the VAE's own bound, whatever they are.

    Args:
        spec: what the images are.
        beta: weight of the KL, [1] equation 4.
        free_bits: lambda in [2] appendix C.8, in nats: below this a latent dimension's KL, averaged
            over the batch, costs nothing more.
        settings: of the `VAE`.

    Raises:
        ValueError: a setting out of its range, or images too small for the network.
    """

    def __init__(self, spec: DataSpec, *, beta: float, free_bits: float, **settings: Any) -> None:
        for setting, value in (("beta", beta), ("free_bits", free_bits)):
            if value < 0:
                raise ValueError(f"model.{setting} must be at least 0, found {value}")
        super().__init__(spec, **settings)
        self.beta = beta
        self.free_bits = free_bits

    def weighted_kl(self, kl: Tensor) -> Tensor:
        """KL per image and dimension, [B, D] -> beta * sum_j max(free_bits, mean over the batch of KL_j)."""
        return self.beta * kl.mean(0).clamp_min(self.free_bits).sum()

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction + weighted KL, in nats per image, averaged over the batch.

        Both KLs are logged: the plain one makes -ELBO with the reconstruction, the weighted one the loss.
        """
        y = self.given(batch)
        q = self._posterior(batch.x, *y)
        reconstruction = -self._likelihood(q.rsample(), *y).log_prob(batch.x).mean()
        kl = kl_from_standard(q)
        weighted_kl = self.weighted_kl(kl)
        terms = {"reconstruction": reconstruction, "kl": kl.sum(1).mean(), "weighted_kl": weighted_kl}
        return reconstruction + weighted_kl, {name: term.detach() for name, term in terms.items()}
