"""What only a CUDA device can show; `make test-gpu`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import same_end
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
