"""Running the command line, and the models that tests train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    def one_line(self) -> str:
        """The single line on stderr that a user's mistake gets."""
        lines = [line for line in self.err.splitlines() if line.startswith("gentrain:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def environment(**more: str) -> dict[str, str]:
    """Of a child process: the toy models importable, one thread (they are small)."""
    path = os.pathsep.join([str(TESTS.parent), str(SUPPORT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", **more}


def start(*args: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """`python -m gentrain <args>` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gentrain", *args],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """Tests that run as a job in the background, or under nohup, inherit that signals are ignored."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def run_process(*args: str, cwd: Path, timeout: float = 300, **more: str) -> Ended:
    """Run `python -m gentrain <args>` to its end."""
    process = start(*args, cwd=cwd, **more)
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)


def toy(name: str, *more: str) -> list[str]:
    """Arguments that choose one of the tests' models."""
    return ["--config-dir", str(SUPPORT / "configs"), f"model={name}", "trust=[toys]", *more]


def stop_at(gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, step: int, *args: str) -> Ended:
    """Train until `step`, then be asked to end, as by SIGTERM."""
    from gentrain.training.trainer import Trainer  # it imports torch, which some users of this do not

    one_step = Trainer.one_step

    def stopping(self: Trainer) -> None:
        one_step(self)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "one_step", stopping)
        return gentrain("train", *args)


@contextmanager
def quietly_in(place: Path) -> Iterator[pytest.MonkeyPatch]:
    """Commands within run in the folder `place`, and what they warn of is not shown."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(place)
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # which commands replace: put back
        yield patch


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until `path` exists; fails when `process` ends before."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


#: Every kind of model, small; a new model joins with one line.
MODELS = {
    "vae": ["model=vae", "model.channels=[8,8]"],
    "vae_mlp": ["model=vae_mlp", "model.hidden=[16]", "dataset.binarize=dynamic", "train.accumulate=2"],
    "ae": ["model=ae", "model.channels=[8,8]"],
    "dae": ["model=dae", "model.hidden=[16]", "model.chain_steps=3", "model.walkback=2"],
    "cvae": ["model=cvae", "model.channels=[8,8]"],
    "iwae_2": ["model=iwae_2", "model.latents=[6,4]", "model.hidden=[[16],[8]]"],
    "pixelcnn": ["model=pixelcnn", "model.depth=1", "model.channels=8", "dataset.binarize=dynamic"],
    "fvbn": ["model=fvbn", "dataset.binarize=dynamic"],
    "nade": ["model=nade", "model.hidden=16", "model.order=random"],
    "made": ["model=made", "model.hidden=[32]", "model.masks=2", "dataset.binarize=dynamic"],
    "gated_pixelcnn": ["model=gated_pixelcnn", "model.channels=8", "model.depth=1", "model.label_by=bias"],
    "pixelcnnpp": ["model=pixelcnnpp", "model.channels=4", "model.scales=2", "model.dropout=0.5"],
    "row_lstm": ["model=row_lstm", "model.hidden=4", "model.depth=1", "dataset.binarize=dynamic"],
    "diagonal_bilstm": ["model=diagonal_bilstm", "model.hidden=4", "model.depth=1", "precision=bf16"],
    "wavenet": ["model=wavenet", "model.channels=4", "model.skip=8", "model.layers=3"],
    "gan": ["model=gan", "model.channels=4", "precision=fp16"],
    "wgan_gp": ["model=gan", "model.channels=4", "model.objective=wgan_gp", "model.n_critic=2"],
    "sngan": ["model=sngan", "model.channels=4", "model.discriminator_channels=4", "precision=bf16"],
    "cgan": ["model=cgan", "model.channels=4", "model.label_by=projection", "model.augment=[translation]"],
    "infogan": ["model=infogan", "model.channels=4", "model.dense=8", "precision=bf16"],
    "bigan": ["model=bigan", "model.hidden=[16,16]", "model.r1_weight=0.1", "model.r1_every=3"],
    "biggan": ["model=biggan", "model.channels=4", "model.discriminator_channels=4", "model.latent_dim=6"],
    "pix2pix": ["model=pix2pix", "model.channels=4", "model.patch_channels=4", "dataset.source=invert"],
    "cyclegan": [
        "model=cyclegan",
        "model.channels=4",
        "model.blocks=1",
        "model.patch_channels=4",
        "model.pool=20",
        "model.identity_weight=0.5",
        "dataset.source=invert",
        "dataset.paired=false",
    ],
    "text_gan": [
        "model=text_gan",
        "model.channels=4",
        "model.text=8",
        "model.told=8",
        "model.interpolate_weight=0.5",
        "dataset.stacked=true",
    ],
    "rbm": ["model=rbm", "model.hidden=24", "model.chain_steps=20", "dataset.binarize=threshold"],
    "realnvp": ["model=realnvp", "model.hidden=4", "model.blocks=1", "model.label_by=bias"],
    "nice": ["model=nice", "model.hidden=[16]"],
    "glow": ["model=glow", "model.depth=2", "model.hidden=8", "precision=bf16"],
}
#: Of MODELS, those that stand for all in tests of whole processes in `make test`: micro-batches and data that
#: are drawn afresh; two players, one of them not in every step. The others wait for `make test-all`.
STAND_FOR_ALL = {"vae_mlp", "wgan_gp"}
#: MODELS for tests that take many seconds each.
LONG = [name if name in STAND_FOR_ALL else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
#: Of MODELS, one of each family, and those with state of their own (scalers, first batch, warm-up): their
#: runs are killed 20 times in `make test-all`, those of the others 3 times.
STATEFUL = {"vae_mlp", "pixelcnn", "gan", "wgan_gp", "glow", "iwae_2", "rbm"}
#: Everything happens often.
OFTEN = [
    "dataset=digits",
    "train.batch_size=32",
    "train.log_every=10",
    "train.eval_every=50",
    "train.sample_every=100",
    "train.checkpoint_every=15",
    "train.sample_count=4",
]
COMMON = [*OFTEN, "run_dir=run"]
