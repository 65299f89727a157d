"""What only a CUDA device can show; `make test-gpu`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import same, same_end
from running import MODELS, OFTEN, Ended, run_process, toy

from gentrain.training import checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", MODELS)
def test_trains_in_every_precision(gentrain: Callable[..., Ended], name: str, precision: str) -> None:
    arguments = [a for a in MODELS[name] if not a.startswith("precision")]
    settings = ["device=cuda", f"precision={precision}", "train.steps=60", "run_dir=run"]
    done = gentrain("train", *arguments, *OFTEN, *settings)
    assert done.status == 0, done.err
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    assert all(torch.isfinite(v).all() for v in state["model"].values() if v.is_floating_point())


@pytest.mark.parametrize("name", MODELS)
def test_resumes_to_the_bit_when_deterministic(tmp_path: Path, name: str) -> None:
    arguments = [*MODELS[name], *OFTEN, "run_dir=run", "device=cuda", "deterministic=true"]
    trusted = [a for a in MODELS[name] if a.startswith("trust=")]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert run_process("train", *arguments, "train.steps=100", cwd=whole).status == 0
    assert run_process("train", *arguments, "train.steps=50", cwd=broken).status == 0
    longer = run_process("train", "resume=run", "train.steps=100", *trusted, cwd=broken)
    assert longer.status == 0, longer.err
    same_end(whole / "run", broken / "run")


@pytest.mark.parametrize("name", MODELS)
def test_no_step_waits_for_the_device(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from gentrain.training.trainer import Trainer

    one_step = Trainer.one_step

    def watched(self: Trainer) -> None:
        # The first updates make the optimisers' state and may look once whether to.
        torch.cuda.set_sync_debug_mode("error" if self.step > 4 else "default")
        try:
            one_step(self)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "one_step", watched)
    done = gentrain("train", *MODELS[name], *OFTEN, "device=cuda", "train.steps=20")
    assert done.status == 0, done.err


#: What can be captured; glow's step in float32 too.
CAPTURED = {
    name: [a for a in arguments if not a.startswith("precision")]
    for name, arguments in MODELS.items()
    if name != "wgan_gp"
}
#: A learning rate that a float holds as well as a double, which an ordinary step reads.
RATE = 2.0**-10


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_steps_agree_with_ordinary_ones(gentrain: Callable[..., Ended], name: str) -> None:
    turns = ("generator", "discriminator") if name == "gan" else ("main",)
    arguments = [*CAPTURED[name], *OFTEN, *(f"optim.{turn}.lr={RATE}" for turn in turns)]
    arguments += ["device=cuda", "precision=fp32", "deterministic=true", "train.steps=20"]
    states = []
    for graph in ("false", "true"):
        done = gentrain("train", *arguments, f"train.cuda_graph={graph}", f"run_dir={graph}")
        assert done.status == 0, done.err
        states.append(checkpoint.load(Path(graph) / "checkpoints/last.pt"))
    plain, captured = states
    same(plain["random"], captured["random"])  # as many random numbers were drawn
    assert {k: t["updates"] for k, t in plain["turns"].items()} == {
        k: t["updates"] for k, t in captured["turns"].items()
    }
    for part in ("model", "ema"):
        if plain[part] is not None:
            torch.testing.assert_close(captured[part], plain[part], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_run_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    """The checkpoint is of step 50, after 47 replays; the resumed run starts with ordinary steps."""
    arguments = [*CAPTURED[name], *OFTEN, "run_dir=run", "device=cuda", "deterministic=true"]
    arguments += ["precision=fp32", "train.cuda_graph=true"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert run_process("train", *arguments, "train.steps=100", cwd=whole).status == 0
    assert run_process("train", *arguments, "train.steps=50", cwd=broken).status == 0
    longer = run_process("train", "resume=run", "train.steps=100", cwd=broken)
    assert longer.status == 0, longer.err
    same_end(whole / "run", broken / "run")


@pytest.mark.parametrize("name", CAPTURED)
def test_no_replayed_step_waits_for_the_device(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from gentrain.training.trainer import Trainer

    one_step = Trainer.one_step

    def watched(self: Trainer) -> None:
        torch.cuda.set_sync_debug_mode("error" if self.step > 10 else "default")
        try:
            one_step(self)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "one_step", watched)
    settings = ["device=cuda", "train.cuda_graph=true", "train.steps=30"]
    done = gentrain("train", *CAPTURED[name], *OFTEN, *settings)
    assert done.status == 0, done.err


def test_a_non_finite_loss_in_a_replay_is_found(gentrain: Callable[..., Ended]) -> None:
    """The learning rate of step 26 throws the weights away, so that the loss of step 27 is not finite."""
    done = gentrain(
        *["train", *MODELS["vae_mlp"], *OFTEN, "device=cuda", "train.cuda_graph=true", "run_dir=run"],
        *["+schedule.main._target_=torch.optim.lr_scheduler.MultiStepLR", "+schedule.main.gamma=1e30"],
        *["+schedule.main.milestones=[25]", "train.steps=60"],
    )
    assert done.status == 1
    assert "step 27, turn main" in done.one_line()
    assert checkpoint.load(Path("run/checkpoints/last.pt"))["step"] == 15


def test_capture_pays_where_steps_are_small(gentrain: Callable[..., Ended]) -> None:
    rates = []
    for graph in ("false", "true"):
        done = gentrain(
            *["train", "model=vae_mlp", "dataset=digits", "dataset.binarize=dynamic", "device=cuda"],
            *["precision=fp32", "train.batch_size=20", "train.steps=5000", f"train.cuda_graph={graph}"],
            *["train.log_every=5000", "train.eval_every=5000", "train.sample_every=5000"],
            *["train.checkpoint_every=5000"],
        )
        assert done.status == 0, done.err
        rates.append(float(re.findall(r"([\d.]+) images/s", done.out)[-1]))
    print(f"ordinary {rates[0] / 20:.0f}, captured {rates[1] / 20:.0f} steps per second")
    assert rates[1] > 2 * rates[0]


def test_a_non_finite_loss_never_reaches_the_weights(gentrain: Callable[..., Ended]) -> None:
    arguments = toy(
        "toy_flow", *OFTEN, "device=cuda", "model.poison_step=25", "train.steps=60", "run_dir=run"
    )
    done = gentrain("train", *arguments)
    assert done.status == 1
    assert "step 26, turn main" in done.one_line()
    assert checkpoint.load(Path("run/checkpoints/last.pt"))["step"] == 15


def test_cpu_and_gpu_agree_on_the_likelihood(gentrain: Callable[..., Ended]) -> None:
    import gentrain as package

    done = gentrain("train", *MODELS["vae"], *OFTEN, "device=cuda", "train.steps=30", "run_dir=run")
    assert done.status == 0, done.err
    x = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8)
    values = []
    for device in ("cpu", "cuda"):
        model = package.load("run", device=device).double()
        torch.manual_seed(0)
        log_p = model.log_likelihood(x.to(device), samples=2000)[0]
        values.append(float(log_p.mean()))
    assert math.isclose(*values, abs_tol=0.1)  # other noise: within the error of 2,000 samples


def test_out_of_memory_is_one_line(gentrain: Callable[..., Ended]) -> None:
    done = gentrain(
        "train", "model=vae_mlp", "device=cuda", "model.hidden=[2000000,2000000]", "train.steps=2"
    )
    assert done.status == 1
    assert "out of memory" in done.one_line()
    assert not Path("outputs").exists()
