"""The conditional variational autoencoder: p(x|y) of images with labels or attributes y.

[1] Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative
    Models", NeurIPS 2015.
[2] Kingma, Rezende, Mohamed & Welling 2014, "Semi-supervised Learning with Deep Generative Models",
    arXiv:1406.5298, its model M2 with all labels known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec, LikelihoodKind, Reconstructs, check_images
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder.vae import LatentVariableModel, start_of_pixels


class ConditionalEncoder(nn.Module):
    """An encoder that sees the condition as one more channel of the image, learnt per condition.

    Args:
        encoder: [B, C + 1, H, W] -> [B, codes].
        conditions: Y, numbers in a condition.
        size: (H, W) of the images.

    x [B, C, H, W], y [B, Y] -> [B, codes].
    """

    def __init__(self, encoder: nn.Module, conditions: int, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        self.embedding = nn.Sequential(nn.Linear(conditions, height * width), nn.Unflatten(1, (1, *size)))
        self.encoder = encoder

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, H, W], y [B, Y] -> [B, codes]."""
        return self.encoder(torch.cat([x, self.embedding(y)], dim=1))


class ConditionalDecoder(nn.Module):
    """A decoder that sees the condition beside the latents.

    Args:
        decoder: [B, D + Y] -> [B, out_channels, H, W].

    z [B, D], y [B, Y] -> [B, out_channels, H, W].
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, Y] -> [B, out_channels, H, W]."""
        return self.decoder(torch.cat([z, y], dim=1))


class CVAE(LatentVariableModel, Reconstructs):
    """p(x|y) with p(z) = N(0, I), p(x|z, y) from a decoder and q(z|x, y) from an encoder [1, 2].

    y is the label as a one-hot vector where the data have labels, else the boolean attributes. Wherever
    a method takes `label`, that is int64 [B] for the one, bool [B, A] for the other.

    Args:
        spec: what the images are.
        network: one of `layers.encoder_decoder.NETWORKS`.
        latent_dim: D, the number of latent dimensions.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers, the decoder has them in reverse; conv: one
            number, the units of the linear layer between feature maps and latents.
        activation: one of `layers.activation.ACTIVATIONS`.
        dropout: conv: probability with which an input of the encoder's linear layers is zeroed in training.
        likelihood: p(x|z, y), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|z, y) or takes their mean.

    Raises:
        ValueError: data with neither labels nor attributes, a setting out of its range, or images too
            small for the network.
    """

    lacks = dict.fromkeys(
        ("encode", "interpolate", "arithmetic"),
        "its latents mean nothing without the label of the image, which this command does not take",
    ) | {"probe": "its encoder is given the label, which a classifier of its latents would find there"}

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        latent_dim: int,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latent_dim", latent_dim)
        self.conditions = spec.classes or len(spec.attributes or ())
        if not self.conditions:
            raise ValueError(
                "dataset: its images have neither labels nor attributes to condition on; take a data set "
                "that has (for your own images: one folder per class), or model=vae"
            )
        in_channels, height, width = spec.shape
        networks = encoder_decoder(
            network,
            (in_channels + 1, height, width),
            codes=2 * latent_dim,
            latents=latent_dim + self.conditions,
            start=start_of_pixels(spec, likelihood, mixtures),
            channels=channels,
            hidden=hidden,
            activation_name=activation,
            dropout=dropout,
            black_is_zero=True,
        )
        networks = networks._replace(
            encoder=ConditionalEncoder(networks.encoder, self.conditions, (height, width)),
            decoder=ConditionalDecoder(networks.decoder),
        )
        super().__init__(
            spec,
            latent_dim=latent_dim,
            networks=networks,
            likelihood=likelihood,
            mixtures=mixtures,
            sample_pixels=sample_pixels,
        )

    def _given(self, batch: Batch) -> tuple[Tensor, ...]:
        """(y [B, Y],), unchecked: nothing here waits for the device."""
        if batch.given is None:
            raise ValueError("label: the model is one of p(x|label) and needs the label of every image")
        return (self._condition(batch.given),)

    def _condition(self, label: Tensor) -> Tensor:
        """Labels [B], one-hot, or attributes [B, A] -> y [B, Y]."""
        if label.ndim == 1:
            label = label[:, None] == torch.arange(self.conditions, device=label.device)
        return label.to(self._like.dtype)

    def _check_label(self, label: Tensor, count: int) -> None:
        wanted = (count,) if self.spec.classes else (count, self.conditions)
        dtype = torch.int64 if self.spec.classes else torch.bool
        if tuple(label.shape) != wanted or label.dtype != dtype:
            raise ValueError(f"label must be {dtype} {list(wanted)}, found {label.dtype} {list(label.shape)}")
        if self.spec.classes and count and not 0 <= int(label.min()) <= int(label.max()) < self.conditions:
            found = f"{int(label.min())} to {int(label.max())}"
            raise ValueError(f"label must be 0 to {self.conditions - 1}, found {found}")

    def log_likelihood(
        self, x: Tensor, label: Tensor | None = None, samples: int | None = None
    ) -> tuple[Tensor, LikelihoodKind]:
        """A lower bound on log p(x|label), as `LatentVariableModel.log_likelihood` bounds log p(x).

        The kind says what is given: a conditional likelihood is not to be compared with that of a model
        which has to find out the label.

        Raises:
            ValueError: as there; no label, or one that the data do not have.
        """
        if label is not None:
            self._check_label(label, len(x))
        bound, kind = super().log_likelihood(x, label, samples)
        return bound, f"{kind} given {'labels' if self.spec.classes else 'attributes'}"

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W], from z ~ N(0, temperature^2 I) and their labels.

        Args:
            n: images.
            label: int64 [n], or bool [n, A] for attributes. None: all labels in turn; for attributes
                each one alone in turn.
            temperature: standard deviation of z.

        Raises:
            ValueError: as `LatentVariableModel.sample`; a label that the data do not have.
        """
        if label is None:
            label = torch.arange(max(n, 0), device=self._like.device) % self.conditions
        else:
            self._check_label(label, n)
        return self._sample(n, temperature, self._condition(label))

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"image", "reconstruction"} by way of the mean of q(z|x, y), uint8 [B, C, H, W] each.

        Raises:
            ValueError: no labels in the batch, or images that the model was not built for.
        """
        check_images(batch.x, self.spec)
        y = self._given(batch)
        images = self._images(self._posterior(batch.x, *y).mean, *y, sample_pixels=False)
        return {"image": batch.x, "reconstruction": images}
