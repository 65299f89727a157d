"""How many kinds of images a model draws, and how clear they are: a classifier looks at its samples.

The classifier is a small convolutional network of our own, trained on the labelled training images of
the data set. Two figures of its predictions on samples: the entropy of the predicted labels, in nats,
which is ln K where all K labels are drawn equally often and 0 where only one is (mode collapse); and the
mean confidence, the largest predicted probability, which is near 1 where the samples are clear. They are
the two sides of the inception score [1]. They say nothing of diversity within a label.

1. Salimans et al. 2016, Improved techniques for training GANs, arXiv:1606.03498, section 4.
2. Ioffe & Szegedy 2015, Batch normalization, arXiv:1502.03167.
3. Smith & Topin 2018, Super-convergence, arXiv:1708.07120 (the one-cycle learning rate).
4. Basharin 1959, On a statistical estimate for the entropy of a sequence of independent random variables.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gentrain.contracts import Batch, DataSpec


@dataclass(frozen=True)
class Recipe:
    """What the classifier is and how it is trained; the same for every data set.

    widths: channels of the convolutions, each of which halves the image, as long as it is large enough.
    hidden: units between the convolutions and the logits.
    smallest: no image with a side below this is halved, in pixels.
    batch_size: images per step, all of them where there are fewer.
    epochs: passes over the training images.
    steps: the least number of steps, which small data sets need.
    lr: the largest learning rate of Adam, in the middle of one cycle [3].
    shift: images move by up to this fraction of their sides, whole pixels at random.
    """

    widths: tuple[int, ...] = (24, 48, 96)
    hidden: int = 128
    smallest: int = 4
    batch_size: int = 128
    epochs: float = 3.0
    steps: int = 600
    lr: float = 4e-3
    shift: float = 1 / 14

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, as the key of a cached classifier holds them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


RECIPE = Recipe()


class Classifier(nn.Module):
    """Convolutions with batch norm [2] and pooling, one hidden layer, one logit per label.

    Args:
        spec: what the images are, with at least one class.
        recipe: the sizes.

    Raises:
        ValueError: the images have no labels.
    """

    def __init__(self, spec: DataSpec, recipe: Recipe) -> None:
        super().__init__()
        if spec.classes is None:
            raise ValueError("a classifier needs images with labels, found a data set without")
        channels, height, width = spec.shape
        self.levels = spec.levels
        layers: list[nn.Module] = []
        for out in recipe.widths:
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
            if min(height, width) >= 2 * recipe.smallest:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        self.features = nn.Sequential(*layers)
        # No more cells than these, however large the images are.
        cells = (min(height, 2 * recipe.smallest), min(width, 2 * recipe.smallest))
        self.logits = nn.Sequential(
            nn.AdaptiveAvgPool2d(cells),
            nn.Flatten(),
            nn.Linear(channels * cells[0] * cells[1], recipe.hidden),
            nn.ReLU(),
            nn.Linear(recipe.hidden, spec.classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> logits [B, K]."""
        logits: Tensor = self.logits[-1](self.hidden(x))
        return logits

    def hidden(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> units of the hidden layer [B, H]."""
        y = x.to(next(self.features.parameters()).dtype) / (self.levels - 1) * 2 - 1  # in -1 .. 1
        units: Tensor = self.logits[:-1](self.features(y))
        return units


def steps_of(count: int, recipe: Recipe) -> int:
    """How many steps a classifier of `count` images is trained for."""
    return max(recipe.steps, math.ceil(recipe.epochs * count / min(recipe.batch_size, count)))


def train_classifier(
    batch_at: Callable[[int], Batch],
    spec: DataSpec,
    recipe: Recipe,
    steps: Sequence[int],
    device: torch.device,
) -> Classifier:
    """A classifier trained on the batches of `steps`, in eval mode; draws from torch's global generator.

    Args:
        batch_at: step (0-based) -> labelled images on `device`.
        spec: what they are.
        recipe: the sizes and the learning rate.
        steps: in order; their number is the length of the cycle.
        device: where to train.
    """
    net = Classifier(spec, recipe).to(device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=len(steps))
    for step in steps:
        batch = batch_at(step)
        assert batch.label is not None
        loss = functional.cross_entropy(net(shifted(batch.x, recipe.shift)), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def shifted(x: Tensor, fraction: float) -> Tensor:
    """[B, C, H, W] -> the same, each image moved by up to `fraction` of a side; edges repeat."""
    height, width = x.shape[-2:]
    rows = _moved(len(x), height, int(fraction * height), x.device)  # [B, H]
    columns = _moved(len(x), width, int(fraction * width), x.device)  # [B, W]
    images = torch.arange(len(x), device=x.device)[:, None, None]
    moved = x[images, :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return moved.permute(0, 3, 1, 2)


def _moved(count: int, side: int, most: int, device: torch.device) -> Tensor:
    """Which line comes to stand at 0 .. side-1, for each of `count` images: int64 [count, side]."""
    by = torch.randint(-most, most + 1, (count, 1), device=device)
    return (torch.arange(side, device=device) + by).clamp(0, side - 1)


@torch.no_grad()
def features_of(net: Classifier, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """uint8 [B, C, H, W] each -> (units of the hidden layer [N, H], labels int64 [N]), on the CPU."""
    found, labels = [], []
    for x in batches:
        hidden = net.hidden(x)
        found.append(hidden.cpu())
        labels.append(net.logits[-1](hidden).argmax(1).cpu())
    return torch.cat(found), torch.cat(labels)


@torch.no_grad()
def predict(net: nn.Module, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """uint8 [B, C, H, W] each -> (labels int64 [N], confidences float64 [N]), on the CPU."""
    labels, confidences = [], []
    for x in batches:
        confidence, label = net(x).float().softmax(dim=1).max(dim=1)
        labels.append(label.cpu())
        confidences.append(confidence.cpu().double())
    return torch.cat(labels), torch.cat(confidences)


@dataclass(frozen=True)
class Judge:
    """A trained classifier and what it does on the test images.

    accuracy: fraction of the test images whose label it finds; confidence: its mean confidence there.
    train_images, test_images: how many it was trained and tested on.
    """

    net: Classifier
    accuracy: float
    confidence: float
    train_images: int
    test_images: int

    def to_bytes(self) -> bytes:
        """As a file holds it; `judge_from_bytes` is the inverse."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "net"}
        state = {name: value.cpu() for name, value in self.net.state_dict().items()}
        file = io.BytesIO()
        torch.save({"state": state, **facts}, file)
        return file.getvalue()


def judge_from_bytes(content: bytes, spec: DataSpec, recipe: Recipe, device: torch.device) -> Judge:
    """The inverse of `Judge.to_bytes`; nothing in `content` is executed."""
    facts: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    net = Classifier(spec, recipe).to(device)
    net.load_state_dict(facts.pop("state"))
    return Judge(net.eval(), **facts)


@torch.no_grad()
def examined(net: Classifier, batches: Iterable[Batch], train_images: int) -> Judge:
    """`net` with its accuracy and confidence on labelled test images.

    Raises:
        ValueError: no images at all.
    """
    right, images, confidence = 0, 0, 0.0
    for batch in batches:
        assert batch.label is not None
        labels, confidences = predict(net, [batch.x])
        right += int((labels == batch.label.cpu()).sum())
        confidence += float(confidences.sum())
        images += len(labels)
    if not images:
        raise ValueError("there are no images to test the classifier on")
    return Judge(net, right / images, confidence / images, train_images, images)


@dataclass(frozen=True)
class Classes:
    """What the classifier predicts for samples.

    images: how many samples; counts: how many of each label.
    entropy, entropy_stderr: of the predicted labels' frequencies, in nats, at most ln K.
    confidence, confidence_stderr: mean of the largest predicted probability.
    """

    images: int
    entropy: float
    entropy_stderr: float
    confidence: float
    confidence_stderr: float
    counts: tuple[int, ...]


def classes_of(labels: Tensor, confidences: Tensor, classes: int) -> Classes:
    """labels int64 [N], confidences [N] -> the figures over N samples.

    Raises:
        ValueError: no samples at all.
    """
    count = len(labels)
    if not count:
        raise ValueError("there are no samples to classify")
    counts = torch.bincount(labels, minlength=classes).tolist()
    confidences = confidences.double()
    deviation = float(confidences.std()) if count > 1 else math.nan
    return Classes(
        count,
        *entropy(counts),
        float(confidences.mean()),
        deviation / math.sqrt(count),
        tuple(counts),
    )


def entropy(counts: Sequence[int]) -> tuple[float, float]:
    """The entropy of a histogram, -sum_k p_k ln p_k with p_k = n_k / N in nats, and its standard error.

    The variance is [4]'s, (sum_k p_k (ln p_k)^2 - H^2) / N. Where all labels are equally frequent that of
    the estimate is of second order, and this is twice as large.
    """
    total = sum(counts)
    p = [n / total for n in counts if n]
    h = math.fsum(-q * math.log(q) for q in p)
    spread = math.fsum(q * (math.log(q) + h) ** 2 for q in p)
    return h, math.sqrt(spread / total)
