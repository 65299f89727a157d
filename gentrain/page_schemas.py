"""The sections of the verbs that write pages, as in schemas.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from gentrain.schema_parts import CheckpointConfig, DatasetPlace, knob

# OmegaConf reads these annotations at run time and wants Optional, not `| None`.
# ruff: noqa: UP045


@dataclass
class QuizConfig(CheckpointConfig):
    """`gentrain quiz`: which is fake?"""

    # As elsewhere; or two, [a,b], against each other.
    ckpt: str = knob("latest", path=True)
    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Questions that count.
    n: int = knob(20, at_least=1, at_most=1000)
    # Questions before them, which say at once what was right; none between two models.
    practice: int = knob(4, at_least=0, at_most=100)
    # Seconds after which the pictures of a question are covered. None: never. The page lets one choose.
    seconds: Optional[float] = knob(5.0, above=0, at_most=3600)
    # What is shown to begin with: pairs of a real and a fake picture, or single ones.
    show: str = knob("pairs", one_of=("pairs", "single"))
    # What is asked to begin with: which is fake, or which is real.
    question: str = knob("fake", one_of=("fake", "real"))
    # How much noise, relative to training: as in `gentrain sample`.
    temperature: float = knob(1.0, above=0)
    # Instead of a model: a folder (or a zip) of real pictures, and one of fakes.
    real: Optional[str] = knob(None, path=True)
    # The fakes.
    fake: Optional[str] = knob(None, path=True)
    # Pixels of a side to which pictures of folders are brought, where all of them are larger.
    image_size: int = knob(128, at_least=8, at_most=1024)
    # Files of answers that people downloaded from a quiz, [a.json,b.json]: they are put together.
    results: Optional[str] = knob(None, path=True)
    # An .html; of results a .json. None: quiz.html in the run folder, and of results no file.
    out: Optional[str] = knob(None, path=True)


@dataclass
class ExploreConfig(CheckpointConfig):
    """`gentrain explore`: the model in a page, to play with."""

    # Where the data lie now; read where latents have no prior, to begin with those of images.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Principal directions of the latents that have a slider.
    directions: int = knob(6, at_least=2, at_most=50)
    # Millions of multiplications an image up to which the page computes it; above, a grid is drawn now.
    most: float = knob(20.0, at_least=0)
    # Of such a grid, pictures along each of two directions.
    points: int = knob(9, at_least=2, at_most=50)
    # How the weights lie in the page: float32, or float16, half as large and less exact.
    dtype: str = knob("float32", one_of=("float32", "float16"))
    # An .html. None: explore.html in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class ReportConfig(CheckpointConfig):
    """`gentrain report`: one page of a run, or of several."""

    # A run; several, [a,b], or the folder of a sweep, are compared.
    ckpt: str = knob("latest", path=True)
    # Where the data lie now.
    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Reconstructions, interpolations and completions are made; false: only what the run left is shown.
    pictures: bool = True
    # Pictures of samples over the steps, at most, evenly chosen.
    frames: int = knob(40, at_least=2, at_most=1000)
    # Steps that count as the beginning, which longer runs show by itself.
    beginning: int = knob(500, at_least=1)
    # Samples of each run that stand side by side, of the same noise.
    n: int = knob(16, at_least=1, at_most=256)
    # The samples over the steps as a .gif too, beside the page.
    animation: bool = False
    # An .html. None: report.html in the run folder, or here for several.
    out: Optional[str] = knob(None, path=True)
