"""The end of a step: what evaluating and looking may break is saved before, and done on resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from comparing import metrics, same
from running import MODELS, Ended, start, stop_at, toy
from torch import Tensor

from gentrain.contracts import Batch
from gentrain.models.adversarial.gan import GAN
from gentrain.training import checkpoint, trainer
from gentrain.training.trainer import Trainer

EVERY = ["dataset=digits", "train.batch_size=32", "train.log_every=5", "train.eval_every=10"]
EVERY += ["train.sample_every=10", "train.checkpoint_every=100", "train.sample_count=4", "train.steps=20"]


class Killed(BaseException):
    """Ends a run as a kill does: nothing may catch it."""


def state(run: str) -> dict[str, Any]:
    return checkpoint.load(Path(run) / "checkpoints/last.pt")


def ended_alike(one: str, other: str) -> None:
    a, b = state(one), state(other)
    for end in (a, b):
        end.pop("seconds")
        end.pop("config")
    same(a, b)
    assert metrics(Path(one)) == metrics(Path(other))
    pictures = [sorted(p.relative_to(run) for p in Path(run).rglob("*.png")) for run in (one, other)]
    assert pictures[0] == pictures[1]
    best = [(Path(run) / "checkpoints/best.pt").exists() for run in (one, other)]
    assert best[0] == best[1]


def killed_at(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, call: int) -> None:
    """The `call`-th call of holder.name does its work, and then the process dies."""
    before, calls = getattr(holder, name), []

    def dying(*args: Any, **more: Any) -> Any:
        result = before(*args, **more)
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(holder, name, dying)


#: Where a kill may come at the end of a step, and on which call: of step 10, or of the last step.
KILLS = [
    ("vae_mlp", trainer, "evaluate", 1),
    ("vae_mlp", trainer, "evaluate", 2),
    ("vae_mlp", Trainer, "_evaluate", 1),  # its line of metrics is written, the checkpoint not yet
    ("vae_mlp", trainer, "pictures", 1),
    ("gan", GAN, "examine", 2),
]


@pytest.mark.parametrize(("model", "holder", "name", "call"), KILLS)
def test_killed_between_the_save_and_the_end_of_the_step(
    gentrain: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    holder: Any,
    name: str,
    call: int,
) -> None:
    arguments = [*MODELS[model], *EVERY]
    assert gentrain("train", *arguments, "run_dir=whole").status == 0
    with monkeypatch.context() as patch:
        killed_at(patch, holder, name, call)
        with pytest.raises(Killed):
            gentrain("train", *arguments, "run_dir=broken")
    assert state("broken")["step"] == 10 * call
    assert state("broken")["evaluated"] == (name == "pictures")
    resumed = gentrain("train", "resume=broken")
    assert resumed.status == 0, resumed.err
    ended_alike("whole", "broken")
    assert "is complete at step 20" in gentrain("train", "resume=broken").one_line()


def test_a_signal_does_not_wait_for_the_evaluation(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*MODELS["vae_mlp"], *EVERY]
    assert gentrain("train", *arguments, "run_dir=whole").status == 0
    assert stop_at(gentrain, monkeypatch, 20, *arguments, "run_dir=broken").status == 143
    assert [line["step"] for line in metrics(Path("broken")) if "eval/nats" in line] == [10]
    assert gentrain("train", "resume=broken").status == 0
    ended_alike("whole", "broken")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(28, "No space left on device")]
)
def test_pictures_and_checks_that_fail_are_a_warning(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    arguments = [*MODELS["gan"], *EVERY]
    assert gentrain("train", *arguments, "run_dir=whole").status == 0

    def failing(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "pictures", failing)
        patch.setattr(GAN, "examine", failing)
        done = gentrain("train", *arguments, "run_dir=broken")
    assert done.status == 0, done.err
    assert done.out.count("no pictures: ") == done.out.count("no check/ figures: ") == 1
    reason = "out of memory" if isinstance(error, RuntimeError) else "the disk is full"
    assert f"warning: step 10: no pictures: {reason}" in done.out
    assert "lower train.sample_count or raise train.sample_every" in done.out
    same(state("whole")["model"], state("broken")["model"])
    # What is advised may be typed.
    assert gentrain("train", "resume=broken", "train.steps=21", "train.sample_count=2").status == 0


@pytest.mark.parametrize("step", [10, 20])
def test_an_evaluation_that_fails_says_what_is_saved_and_how_to_go_on(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def failing(*args: Any) -> None:
        if args[2] == step:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return before(*args)

    before = trainer.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", failing)
        failed = gentrain("train", *MODELS["vae_mlp"], *EVERY, "run_dir=run")
        assert failed.status == 1
        line = failed.one_line()
        assert f"the evaluation at step {step} failed: out of memory" in line
        assert state("run")["step"] == step
        if step == 20:
            assert "the trained model is saved; measure it with: gentrain eval ckpt=run batch_size=10" in line
            return
        words = line.partition("gentrain train ")[2].split()
        assert words == ["resume=run", "train.eval_every=20"]
        resumed = gentrain("train", *words)
    assert resumed.status == 0, resumed.err
    assert [line["step"] for line in metrics(Path("run")) if "eval/nats" in line] == [20]


def test_memory_that_ends_in_a_step_names_the_checkpoint_there_is(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_step = Trainer.one_step

    def full(self: Trainer) -> None:
        if self.step == 15:
            raise torch.OutOfMemoryError("CUDA out of memory")
        one_step(self)

    monkeypatch.setattr(Trainer, "one_step", full)
    line = gentrain("train", *MODELS["vae_mlp"], *EVERY, "run_dir=run").one_line()
    assert "train.accumulate" in line
    assert "image_size" not in line, "these images are small"
    assert "the last good checkpoint is run/checkpoints/last.pt" in line


def test_a_reader_that_goes_away_takes_nothing_with_it(tmp_path: Path) -> None:
    with start("train", *MODELS["vae_mlp"], *EVERY, "run_dir=run", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith("run "):
            assert process.poll() is None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 20
    assert [line["step"] for line in metrics(tmp_path / "run") if "eval/nats" in line] == [10, 20]


# The end of a run


def test_minutes_end_a_run_cleanly(gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*MODELS["vae_mlp"], *EVERY, "train.minutes=1", "run_dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "seconds", lambda self: 20.0 * self.step)
        done = gentrain("train", *arguments)
    assert done.status == 0, done.err
    assert "done    step 3 in 60 s of training, 2 images/s" in done.out
    assert "ended: train.minutes=1 are over" in done.out
    assert [line["step"] for line in metrics(Path("run")) if "eval/nats" in line] == [3]
    assert Path("run/samples/step_00000003.png").exists()
    complete = gentrain("train", "resume=run")
    assert complete.status == 2
    assert "complete at step 3 (train.minutes=1 are over)" in complete.one_line()
    assert complete.one_line().endswith("gentrain train resume=run train.minutes=2")
    more = gentrain("train", "resume=run", "train.minutes=2")
    assert more.status == 0, more.err
    assert "done    step 20" in more.out
    assert "ended" not in more.out


def test_patience_ends_a_run_and_is_counted_over_sessions(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations at 2, 4, ...: the first is the best, the third in a row without a better one is at 8."""
    arguments = [*MODELS["vae_mlp"], *EVERY, "train.eval_every=2", "train.patience=3", "optim.main.lr=0"]
    arguments += ["train.accumulate=1", "dataset.binarize=fixed"]
    whole = gentrain("train", *arguments, "run_dir=whole")
    assert whole.status == 0, whole.err
    assert "done    step 8 " in whole.out
    assert "; ended: no better figure in 3 evaluations" in whole.out
    assert state("whole")["step"] == 8
    assert Path("whole/samples/step_00000008.png").exists()
    assert stop_at(gentrain, monkeypatch, 5, *arguments, "run_dir=broken").status == 143
    assert "done    step 8 " in gentrain("train", "resume=broken").out
    ended_alike("whole", "broken")
    complete = gentrain("train", "resume=broken").one_line()
    assert "complete at step 8 (no better figure in 3 evaluations)" in complete
    assert complete.endswith("gentrain train resume=broken train.patience=6")
    assert "done    step 14 " in gentrain("train", "resume=broken", "train.patience=6").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (MODELS["gan"], "no validation figure"),
        ([*MODELS["vae_mlp"], "dataset.validation=0"], "validation images"),
    ],
)
def test_patience_needs_a_figure(gentrain: Callable[..., Ended], arguments: list[str], words: str) -> None:
    refused = gentrain("train", *arguments, *EVERY, "train.patience=2")
    assert refused.status == 2
    assert words in refused.one_line()
    assert not Path("outputs").exists()


def test_a_gan_says_something_of_its_samples(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", *MODELS["gan"], *EVERY, "run_dir=run")
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    checks = [line["check/diversity"] for line in lines if "check/diversity" in line]
    assert len(checks) == 2
    assert f"images/s; check diversity {checks[-1]:.4f}\n" in done.out
    epochs = [(line["images"], line["epoch"]) for line in lines if line["step"] == 10]
    assert set(epochs) == {(320, 320 / 1350)}


def test_checkpoints_from_before_count_as_evaluated(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *MODELS["vae_mlp"], *EVERY, "run_dir=run").status == 0
    old = {k: v for k, v in state("run").items() if k not in ("evaluated", "stale")}
    last = Path("run/checkpoints/last.pt")
    last.unlink()
    checkpoint.save(old, last)
    assert "is complete at step 20" in gentrain("train", "resume=run").one_line()


# Looking changes nothing


def careless(self: toys.ToyChain, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss that moves its state in eval mode too."""
    self.chain.add_(torch.rand(3))
    self.count.add_(1)
    return (batch.x.flatten(1) - self.mean - self.chain.mean()).square().mean(), {}


@pytest.mark.parametrize("loss", [toys.ToyChain.loss, careless])
@pytest.mark.parametrize("average", ["null", "0.9"])
def test_a_loss_with_state_is_not_moved_by_looking(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, average: str, loss: Any
) -> None:
    monkeypatch.setattr(toys.ToyChain, "loss", loss)
    ends = []
    for every in (1, 100):
        look = [f"train.{what}_every={every}" for what in ("eval", "sample")]
        more = [*look, f"train.ema={average}", "train.steps=4", f"run_dir=every{every}"]
        done = gentrain("train", *toy("toy_chain"), *EVERY, *more)
        assert done.status == 0, done.err
        ends.append(state(f"every{every}"))
    for key in ("model", "ema", "random"):
        same(ends[0][key], ends[1][key])
    assert float(ends[0]["model"]["count"]) == 4
    if average != "null":
        same(ends[0]["ema"]["chain"], ends[0]["model"]["chain"])
        same(ends[0]["ema"]["count"], ends[0]["model"]["count"])
