"""The sections of `gentrain train` and of experiments, as in schemas.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from gentrain.schema_parts import knob

# OmegaConf reads these annotations at run time and wants Optional, not `| None`.
# ruff: noqa: UP045


@dataclass
class TrainSection:
    """How long and how a run trains (`train.*`)."""

    # Optimisation steps; one step is one fresh batch and every turn that is due.
    steps: int = knob(1000, at_least=1, at_most=10**12)
    # Passes over the training images; wins over the default `steps`. None: `steps` decides.
    epochs: Optional[int] = knob(None, at_least=1, at_most=10**9)
    # Images per step, over all ranks.
    batch_size: int = knob(128, at_least=1)
    # Micro-batches into which each rank's part of a batch is split, to save memory.
    accumulate: int = knob(1, at_least=1)
    # Largest 2-norm of a turn's gradient. None: no clipping.
    clip_grad_norm: Optional[float] = knob(None, above=0)
    # Decay of the exponential moving average of the weights, per update. None: no average.
    ema: Optional[float] = knob(None, at_least=0, below=1)
    # Compile each turn's loss with torch.compile.
    compile: bool = False
    # Capture a whole step as a CUDA graph and replay it: many times faster where steps are small.
    cuda_graph: bool = False
    # Newest checkpoints that are kept; the best one is kept besides.
    keep: int = knob(2, at_least=1)
    # Steps between two lines of metrics.
    log_every: int = knob(50, at_least=1)
    # Steps between two evaluations on the validation images; each is saved as a checkpoint before and after.
    eval_every: int = knob(500, at_least=1)
    # Steps between two pictures.
    sample_every: int = knob(500, at_least=1)
    # Steps between two checkpoints.
    checkpoint_every: int = knob(500, at_least=1)
    # Images in a sample grid.
    sample_count: int = knob(64, at_least=1, at_most=4096)
    # Minutes of training, over all sessions of a run, after which it ends, if its steps are not done before.
    # None: no limit.
    minutes: Optional[float] = knob(None, above=0)
    # Evaluations in a row without a better figure after which a run ends. None: no limit.
    patience: Optional[int] = knob(None, at_least=1)
    # Seconds between two lines of progress where the output is no terminal; they come with a line of metrics.
    say_seconds: float = knob(30.0, at_least=0)
    # fp16 only: updates skipped in a row, for a non-finite gradient, after which the run stops.
    max_skips: int = knob(20, at_least=1)


@dataclass
class Names:
    """The config group options that were chosen; they name the run folder and messages."""

    # The option of model=.
    model: str = ""
    # The option of dataset=.
    dataset: str = ""
    # The option of experiment=. None: none was chosen.
    experiment: Optional[str] = None


@dataclass
class Made:
    """With what a run was begun."""

    # The commit of gentrain's checkout, `-dirty` where files differed from it. None: it ran from no checkout.
    commit: Optional[str] = None
    # The GPU, or the processor and its cores. None: begun before this was kept.
    machine: Optional[str] = None
    # Of gentrain, Python, torch, torchvision and numpy. Empty: begun before this was kept.
    versions: dict[str, str] = field(default_factory=dict)


#: Extractors of features that sets of images are compared by.
FEATURES = ("classifier", "lite0", "inception")


@dataclass
class Target:
    """A figure that an experiment is held against (`targets`, a list)."""

    # One of the metrics of `gentrain eval` and one of its figures: likelihood.nats, classifier.entropy.
    metric: str = MISSING
    # Which images: train, validation or test; always all of them.
    split: str = knob("test", one_of=("train", "validation", "test"))
    # The figure in the literature. None: there is none.
    published: Optional[float] = None
    # What is wanted where lower is better; the published figure, if there is one. None: at_least has it.
    at_most: Optional[float] = None
    # What is wanted where higher is better. None: at_most has it.
    at_least: Optional[float] = None
    # How much worse is still a reproduction; better by more than this wants a second look.
    tolerance: float = knob(0.0, at_least=0)
    # Importance samples per image, where the likelihood is a bound. None: the plain bound.
    samples: Optional[int] = knob(None, at_least=1)
    # Samples to draw, for metrics that look at samples. None: as many as `eval` draws.
    n: Optional[int] = knob(None, at_least=1)
    # Which features of them. None: those that `eval` takes.
    features: Optional[str] = knob(None, one_of=FEATURES)
    # Where the figure stands: paper, table; or what it is, where it is our own.
    source: str = MISSING


PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass
class TrainConfig:
    """`gentrain train`."""

    # The model's class (`_target_`) and its settings, from configs/model/.
    model: dict[str, Any] = MISSING
    # The data set's class (`_target_`) and its settings, from configs/dataset/.
    dataset: dict[str, Any] = MISSING
    # One optimiser per turn.
    optim: dict[str, Any] = field(default_factory=dict)
    # A learning-rate schedule per turn, where one is wanted; or a list of them, one after the other.
    schedule: dict[str, Any] = field(default_factory=dict)
    # What an experiment is held against by `gentrain reproduce`; training itself does not look.
    targets: list[Target] = field(default_factory=list)
    # Seeds that `gentrain reproduce` runs, the one in the middle counts. None: `seed` alone.
    seeds: Optional[list[int]] = None
    # What is changed for a second run, which `gentrain reproduce` trains too and sets this one beside, where
    # a target is of both: {model: {adversarial: false}}. None: there is none.
    beside: Optional[dict[str, Any]] = None
    # How long and how to train.
    train: TrainSection = field(default_factory=TrainSection)
    # What was chosen; filled in by the command.
    names: Names = field(default_factory=Names)
    # With what it was begun; filled in by the command.
    made: Made = field(default_factory=Made)
    # Seeds everything: weights, noise, the order of the images.
    seed: int = knob(0, at_least=0, below=2**63)
    # auto, cpu, cuda, cuda:N or mps; auto takes the best there is.
    device: str = "auto"
    # Threads that compute on the CPU. None: one for each core, or OMP_NUM_THREADS.
    threads: Optional[int] = knob(None, at_least=1, at_most=1024)
    # auto is bf16 on a GPU that has it, fp32 elsewhere.
    precision: str = knob("auto", one_of=PRECISIONS)
    # The same bits on a GPU too, slower.
    deterministic: bool = False
    # Where figures and pictures go besides metrics.jsonl: [tensorboard, wandb, trackio], or some, or [].
    # A module of one's own with wandb's interface: name it in `trust` too.
    track: Any = field(default_factory=lambda: ["tensorboard"], metadata={"names": True})
    # The run folder. None: outputs/<model>-<dataset>/<date>_<time>.
    run_dir: Optional[str] = knob(None, path=True)
    # A run folder (or a checkpoint in it) to go on with.
    resume: Optional[str] = knob(None, path=True)
    # Go on even where the checkpoint lacks random state.
    resume_inexact: bool = False
    # A checkpoint whose weights a new run starts from.
    init: Optional[str] = knob(None, path=True)
    # Print what would be done, and stop.
    dry_run: bool = False
    # Own packages whose classes `_target_` may name.
    trust: Any = field(default_factory=list, metadata={"names": True})
