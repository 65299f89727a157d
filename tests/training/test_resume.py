"""Killed at any moment and resumed, a run ends as if nothing had happened, to the bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import metrics, same, same_end
from running import (
    COMMON,
    MODELS,
    OFTEN,
    STAND_FOR_ALL,
    STATEFUL,
    Ended,
    environment,
    quietly_in,
    run_process,
    start,
    stop_at,
    toy,
    wait_for,
)

from gentrain.cli import main
from gentrain.training import checkpoint
from gentrain.training.watching import is_better


def train(cwd: Path, *args: str, expect: int = 0) -> Ended:
    done = run_process("train", *args, cwd=cwd)
    assert done.status == expect, done.err
    return done


def trusted(arguments: list[str]) -> list[str]:
    """What must be said again when a run is resumed: whose classes may be built."""
    return [a for a in arguments if a.startswith("trust=")]


def kill_and_resume(tmp_path: Path, name: str, kills: int, steps: int) -> None:
    arguments = [*MODELS[name], *COMMON, f"train.steps={steps}"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    began = time.perf_counter()
    train(whole, *arguments)
    length = min(time.perf_counter() - began, 5.0)
    killed = 0
    chance = random.Random(f"{name} {kills}")
    command = arguments
    for attempt in range(kills + 1):
        process = start("train", *command, cwd=broken)
        if attempt < kills:
            time.sleep(chance.uniform(0.2, 0.8) * length)  # start-up is part of a run too
            process.kill()
        _, err = process.communicate()
        if process.returncode == 0 or "run is complete" in err:  # it was quicker than the kill
            break
        assert process.returncode == -9, err
        killed += 1
        # Before the folder was made there is nothing to resume.
        if (broken / "run" / "config.yaml").exists():
            command = ["resume=run", *trusted(arguments)]
        else:
            shutil.rmtree(broken / "run", ignore_errors=True)
    if kills > 2:  # two may both come too late on a machine that has just become faster
        assert killed >= kills / 2, "most kills hit a living run"
    same_end(whole / "run", broken / "run")


@pytest.mark.parametrize("name", sorted(STAND_FOR_ALL))
def test_killed_and_resumed_to_the_bit(tmp_path: Path, name: str) -> None:
    kill_and_resume(tmp_path, name, 2, 300)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MODELS)
def test_killed_many_times(tmp_path: Path, name: str) -> None:
    kills, steps = (20, 4000) if name in STATEFUL else (3, 600)
    kill_and_resume(tmp_path, name, kills, steps)


# In this process: faster, and every point of an epoch.


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`whole_runs(name)`: a run of 50 steps that nobody stopped, in a folder `whole`; trained once."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            with quietly_in(place):
                assert main(["train", *MODELS[name], *OFTEN, "train.steps=50", "run_dir=whole"]) == 0
            made[name] = place / "whole"
        return made[name]

    return run


@pytest.mark.parametrize("step", [20, 42, 43, 30])  # 1,350 training images, 32 a batch: an epoch is 42.2
@pytest.mark.parametrize("name", ["vae_mlp", "wgan_gp"])
def test_stopped_within_at_the_end_of_and_after_an_epoch(
    gentrain: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    whole_runs: Callable[[str], Path],
    step: int,
    name: str,
) -> None:
    arguments, whole = [*MODELS[name], *OFTEN, "train.steps=50"], whole_runs(name)
    stopped = stop_at(gentrain, monkeypatch, step, *arguments, "run_dir=broken")
    assert stopped.status == 143
    assert "gentrain train resume=broken" in stopped.one_line()
    assert checkpoint.load(Path("broken/checkpoints/last.pt"))["step"] == step
    resumed = gentrain("train", "resume=broken", *trusted(arguments))
    assert resumed.status == 0, resumed.err
    assert "not bit-exact" not in resumed.err
    a, b = (checkpoint.load(f / "checkpoints" / "last.pt") for f in (whole, Path("broken")))
    for state in (a, b):
        state.pop("seconds")
        state["config"] = state["config"].replace("run_dir: broken", "run_dir: whole")
    same(a, b)
    assert metrics(whole) == metrics(Path("broken"))


def test_sigint_saves_and_ends_with_130(tmp_path: Path) -> None:
    process = start("train", *MODELS["vae_mlp"], *COMMON, "train.steps=100000", cwd=tmp_path)
    wait_for(tmp_path / "run" / "checkpoints" / "last.pt", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "saved; go on with: gentrain train resume=run" in err
    assert "Traceback" not in err
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] > 0


def test_a_second_sigint_ends_at_once(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        "from gentrain.cli import main\n"
        "from gentrain.training.trainer import Trainer\n"
        "Trainer.save = lambda *a: (print('saving', flush=True), time.sleep(60))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), "train", *MODELS["vae_mlp"], *COMMON, "train.checkpoint_every=20"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "saving" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first asks"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode in (130, -signal.SIGINT)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short finished run, trained once."""
    place = tmp_path_factory.mktemp("finished")
    with quietly_in(place):
        few = [*OFTEN, "train.steps=40", "run_dir=run", "train.keep=5"]
        assert main(["train", *MODELS["vae_mlp"], *few]) == 0
    return place / "run"


@pytest.fixture
def finished(finished_once: Path, workplace: Path) -> Path:
    """A copy of it in the current folder, for the test to do with as it likes."""
    shutil.copytree(finished_once, "run", symlinks=True)
    last = Path("run/checkpoints/last.pt")
    last.unlink()  # it is one file with that of its step, as where it was made: damage to one is to both
    os.link("run/checkpoints/step_00000040.pt", last)
    return Path("run")


def test_longer_but_nothing_else(gentrain: Callable[..., Ended], finished: Path) -> None:
    for override in (
        "model.hidden=[8]", "model=vae", "optim.main.lr=0.1", "seed=3", "train.batch_size=16", "run_dir=x",
    ):  # fmt: skip
        refused = gentrain("train", "resume=run", override)
        assert refused.status == 2
        key = override.split("=")[0]
        assert f"{key} cannot change when a run is resumed" in refused.one_line()
        fits = not key.startswith("model")
        assert (f"gentrain train init=run {override}" in refused.one_line()) == fits
    done = gentrain("train", "resume=run", "train.steps=60", "train.log_every=20", "device=cpu")
    assert done.status == 0, done.err
    assert checkpoint.load(finished / "checkpoints/last.pt")["step"] == 60
    complete = gentrain("train", "resume=run")
    assert complete.status == 2
    assert "complete at step 60" in complete.one_line()


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    state = checkpoint.load(path)
    change(state)
    path.unlink()
    checkpoint.save(state, path)


def test_missing_random_state(gentrain: Callable[..., Ended], finished: Path) -> None:
    last = finished / "checkpoints/last.pt"
    rewrite(last, lambda state: state.pop("random"))
    refused = gentrain("train", f"resume={last}", "train.steps=50")
    assert refused.status == 2
    assert "resume_inexact=true" in refused.one_line()
    done = gentrain("train", f"resume={last}", "train.steps=50", "resume_inexact=true")
    assert done.status == 0
    assert "not bit-exact: the checkpoint lacks random state" in done.err


def test_another_environment_is_said(gentrain: Callable[..., Ended], finished: Path) -> None:
    last = finished / "checkpoints/last.pt"
    rewrite(last, lambda state: state["environment"].update(threads=97, torch="1.0"))
    done = gentrain("train", "resume=run", "train.steps=50")
    assert done.status == 0
    assert "not bit-exact: torch was 1.0" in done.err
    assert "threads was 97" in done.err


def test_a_damaged_last_checkpoint_falls_back(gentrain: Callable[..., Ended], finished: Path) -> None:
    last = finished / "checkpoints/last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    explicit = gentrain("train", f"resume={last}", "train.steps=60")
    assert explicit.status == 2
    assert "corrupt" in explicit.one_line()
    done = gentrain("train", "resume=run", "train.steps=60")
    assert done.status == 0, done.err
    assert "falling back to an older checkpoint" in done.err
    assert "from step 30" in done.out
    steps = [line["step"] for line in metrics(finished) if "loss/total" in line]
    assert steps == [10, 20, 30, 40, 50, 60], "what was written after step 30 is written once"


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    gentrain: Callable[..., Ended], finished: Path
) -> None:
    for file in (finished / "checkpoints").iterdir():
        file.rename(file.with_suffix(".away"))
    whole = metrics(finished)
    state = checkpoint.load(finished / "checkpoints/last.away")
    done = gentrain("train", "resume=run")
    assert done.status == 0, done.err
    assert metrics(finished) == whole
    again = checkpoint.load(finished / "checkpoints/last.pt")
    assert all(torch.equal(again["model"][k], v) for k, v in state["model"].items())


def test_retention(gentrain: Callable[..., Ended]) -> None:
    settings = ["train.steps=100", "train.keep=2", "train.checkpoint_every=10", "train.eval_every=10"]
    done = gentrain("train", *MODELS["vae_mlp"], *OFTEN, *settings, "optim.main.lr=0.05", "run_dir=run")
    assert done.status == 0, done.err
    folder = Path("run/checkpoints")
    assert sorted(f.name for f in folder.glob("step_*")) == ["step_00000090.pt", "step_00000100.pt"]
    evaluations = {line["step"]: line["eval/nats"] for line in metrics(Path("run")) if "eval/nats" in line}
    best = min(evaluations, key=evaluations.__getitem__)
    assert checkpoint.load(folder / "best.pt")["step"] == best
    assert checkpoint.load(folder / "last.pt")["step"] == 100


def test_a_nan_is_never_the_best() -> None:
    assert is_better(1.0, None)
    assert is_better(1.0, 2.0)
    assert not is_better(3.0, 2.0)
    assert not is_better(float("nan"), None)
    assert not is_better(float("nan"), 2.0)


def test_a_fault_keeps_the_last_good_checkpoint(gentrain: Callable[..., Ended]) -> None:
    """The loss is not a number at step 26; the log line that finds out is at 30."""
    arguments = toy("toy_flow", *OFTEN, "model.poison_step=25", "train.steps=60", "run_dir=run")
    done = gentrain("train", *arguments)
    assert done.status == 1
    assert "step 26, turn main: loss = nan, nats = nan" in done.one_line()
    assert "last good checkpoint is run/checkpoints/last.pt" in done.one_line()
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    assert state["step"] == 15
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_init_starts_a_new_run_from_the_weights(gentrain: Callable[..., Ended], finished: Path) -> None:
    done = gentrain(
        "train", *MODELS["vae_mlp"], *OFTEN, "init=run", "run_dir=new", "train.steps=1", "optim.main.lr=0"
    )
    assert done.status == 0, done.err
    old, new = (checkpoint.load(Path(f"{f}/checkpoints/last.pt")) for f in ("run", "new"))
    weights = old["ema"] or old["model"]
    assert all(torch.equal(new["model"][k], v) for k, v in weights.items())
    assert new["step"] == 1
    other = gentrain("train", "model=vae", "init=run", "train.steps=1")
    assert other.status == 2
    assert "is a vae_mlp" in other.one_line()
    assert not Path("outputs/vae-digits").exists()


def test_data_dependent_initialisation_runs_once(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", *toy("toy_flow", *OFTEN, "train.steps=20", "run_dir=run"))
    assert done.status == 0, done.err
    assert gentrain("train", "trust=[toys]", "resume=run", "train.steps=30").status == 0
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    assert int(state["model"]["initialised"]) == 1
    assert int(state["ema"]["initialised"]) == 1
