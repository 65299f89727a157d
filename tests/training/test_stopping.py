"""Signals end a run with its state saved; a cluster's puts the job into the queue again."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comparing import metrics, same
from running import OFTEN, Ended, environment, wait_for
from torch._inductor.exc import InductorError

from gentrain.training import checkpoint, stopping
from gentrain.training.steps import Steps
from gentrain.training.trainer import Trainer

TRAIN = ["model=vae_mlp", "model.hidden=[8]", *OFTEN, "train.steps=30", "run_dir=run"]


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Not as under nohup, which these tests may run under."""
    before = [signal.signal(signum, signal.SIG_DFL) for signum in stopping.OPTIONAL]
    yield
    for signum, handler in zip(stopping.OPTIONAL, before, strict=True):
        signal.signal(signum, handler)


@pytest.fixture
def stopped(gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Train with a signal at step 7."""
    one_step = Trainer.one_step

    def call(signum: int, *arguments: str) -> Ended:
        def step(self: Trainer) -> None:
            one_step(self)
            if self.step == 7:
                os.kill(os.getpid(), signum)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "one_step", step)
            return gentrain("train", *arguments)

    return call


def step_of(run: str = "run") -> int:
    return int(checkpoint.load(Path(run, "checkpoints/last.pt"))["step"])


@pytest.fixture
def ignored() -> Iterator[None]:
    """As under nohup."""
    before = [signal.signal(signum, signal.SIG_IGN) for signum in stopping.OPTIONAL]
    yield
    for signum, handler in zip(stopping.OPTIONAL, before, strict=True):
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", stopping.SIGNALS)
def test_each_saves_and_ends(stopped: Callable[..., Ended], signum: int) -> None:
    before = signal.getsignal(signum)
    done = stopped(signum, *TRAIN)
    assert done.status == 128 + signum
    assert "stopped at step 7 of 30, saved; go on with: gentrain train resume=run" in done.one_line()
    assert step_of() == 7
    assert "queued" not in done.out
    assert signal.getsignal(signum) == before


def test_control_c_while_the_compiler_runs(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends it to the C++ compiler too, which ends, and torch finds nothing compiled."""
    interrupted = True

    def call(self: Steps, *arguments: object) -> None:
        if interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        raise InductorError(RuntimeError("C++ compile error"), None)

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "__call__", call)
        done = gentrain("train", *TRAIN)
        assert done.status == 128 + signal.SIGINT
        told = "stopped at step 0 of 30, while it was compiled; go on with: gentrain train resume=run"
        assert told in done.one_line()
        interrupted = False
        done = gentrain("train", "resume=run")  # no signal: a fault
        assert done.status == 1
        assert "torch.compile failed (RuntimeError: C++ compile error" in done.one_line()
        assert "set train.compile=false" in done.one_line()
    assert gentrain("train", "resume=run").status == 0


@pytest.mark.usefixtures("ignored")
@pytest.mark.parametrize("signum", stopping.OPTIONAL)
def test_what_is_ignored_stays_so(stopped: Callable[..., Ended], signum: int) -> None:
    assert stopped(signum, *TRAIN).status == 0
    assert step_of() == 30


@pytest.mark.slow
def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gentrain", "train", *TRAIN[:-2], "train.steps=1000000", "run_dir=run"],
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        wait_for(tmp_path / "run/checkpoints/last.pt", process)
        os.close(ours)  # the kernel sends SIGHUP, and nothing can be printed any more
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
    steps = [line["step"] for line in metrics(tmp_path / "run")]
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] >= max(steps)


@pytest.fixture
def slurm(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """A job of SLURM's; what its scontrol was asked."""
    asked, bin = workplace / "asked", workplace / "bin"
    bin.mkdir()
    (bin / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (bin / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    return lambda: asked.read_text() if asked.exists() else ""


def test_a_job_is_queued_once_and_goes_on(
    gentrain: Callable[..., Ended],
    stopped: Callable[..., Ended],
    slurm: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = TRAIN[:-1]  # in outputs/, as a script has it
    whole = gentrain("train", *TRAIN)
    assert whole.status == 0, whole.err
    done = stopped(signal.SIGUSR1, *arguments)
    assert done.status == 128 + signal.SIGUSR1
    assert "note    job 42 is queued again; the same command goes on with this run" in done.out
    assert slurm() == "requeue 42\n"
    (run,) = Path("outputs/vae_mlp-digits").glob("2*")
    assert step_of(str(run)) == 7

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    again = gentrain("train", *arguments)
    assert again.status == 0, again.err
    assert "from step 7" in again.out
    a, b = (checkpoint.load(folder / "checkpoints/last.pt") for folder in (Path("run"), run))
    same(a["turns"], b["turns"])
    complete = gentrain("train", *arguments)  # the script's next command is to run
    assert complete.status == 0, complete.err
    assert "is complete" in complete.out
    other = gentrain("train", *arguments, "seed=1")
    assert "to step 30" in other.out, "another command is another run"
    assert len(list(Path("outputs/vae_mlp-digits").glob("2*"))) == 2
    assert slurm() == "requeue 42\n"


def test_other_signals_queue_nothing(stopped: Callable[..., Ended], slurm: Callable[[], str]) -> None:
    assert stopped(signal.SIGTERM, *TRAIN).status == 143
    assert slurm() == ""


def test_a_job_that_cannot_be_queued(
    stopped: Callable[..., Ended], slurm: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bin/scontrol").write_text("#!/bin/sh\necho 'Requested operation is disabled' >&2; exit 1\n")
    done = stopped(signal.SIGUSR1, *TRAIN)
    assert done.status == 128 + signal.SIGUSR1
    assert "job 42 could not be queued again: Requested operation is disabled" in done.out
    monkeypatch.setenv("PATH", "/nowhere")
    assert "could not be queued again" in (stopping.requeue() or "")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert stopping.requeue() is None
