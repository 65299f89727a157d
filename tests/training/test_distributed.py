"""Two processes under torchrun: the same replicas, the gradient of one process, and what a death does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from comparing import metrics, same, same_end
from running import COMMON, LONG, MODELS, OFTEN, SUPPORT, environment, toy, wait_for

from gentrain.training import latest

RANKS = str(SUPPORT / "ranks.py")


def torchrun(cwd: Path, ranks: int, *args: str, more: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    return subprocess.Popen(
        [*command, *more, RANKS, str(cwd), "train", *args],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, out + err
    return out


@pytest.mark.parametrize("name", LONG)
def test_replicas_stay_bit_identical(tmp_path: Path, name: str) -> None:
    out = finish(torchrun(tmp_path, 2, *MODELS[name], *COMMON, "train.steps=20", "train.ema=0.9"))
    assert out.count("done    step 20") == 1, "one rank speaks"
    one, two = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    same(one, two)
    assert one["ema"] is not None
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines if any(k.startswith("loss/") for k in line)] == [10, 20]


@pytest.mark.slow
def test_a_rank_may_have_no_validation_images(tmp_path: Path) -> None:
    """And the ranks agree on when the run ends."""
    arguments = [*MODELS["dae"], *COMMON, "dataset.validation=1", "train.eval_every=5", "optim.main.lr=0"]
    ends = ["train.steps=1000", "train.minutes=50", "train.patience=2"]
    out = finish(torchrun(tmp_path, 2, *arguments, *ends))
    evaluated = [line["step"] for line in metrics(tmp_path / "run") if "eval/loss" in line]
    assert evaluated[-1] % 5 == 0
    assert f"done    step {evaluated[-1]} " in out
    assert "ended: no better figure in 2 evaluations" in out


@pytest.mark.slow
def test_two_ranks_give_the_gradient_of_one(tmp_path: Path) -> None:
    # No noise, no BatchNorm, and gradient descent, so that weights tell of gradients.
    override = [
        *toy("toy_gan", "model.noise=fixed", "model.norm=false", "train.ema=null", "~schedule.generator"),
        *(f"optim.{turn}._target_=torch.optim.SGD" for turn in ("critic", "generator")),
        *(f"~optim.{turn}.betas" for turn in ("critic", "generator")),
        *(f"optim.{turn}.lr=0.1" for turn in ("critic", "generator")),
    ]
    ends = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        finish(torchrun(folder, ranks, *override, *COMMON, "train.steps=6"))
        ends.append(torch.load(folder / "rank0.pt", weights_only=True)["model"])
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=1e-5, msg=name)
    moved = ends[0]["critic.0.weight"]
    assert float(moved.std()) > 0


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The pids of the processes that torchrun started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(stat[1]) == process.pid and RANKS in command:
                found.append(int(entry.name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_one_rank_dies_the_others_end_and_a_restart_resumes(tmp_path: Path) -> None:
    whole, broken, ended = (tmp_path / name for name in ("whole", "broken", "ended"))
    for folder in (whole, broken, ended):
        folder.mkdir()
    arguments = [*toy("toy_gan"), *OFTEN, "train.steps=400"]
    finish(torchrun(whole, 2, *arguments))

    process = torchrun(broken, 2, *arguments, more=("--max-restarts=1",))
    last = kill_one(process, broken)
    finish(process)
    run = last.parent.parent
    assert len(list(run.parent.glob("2*"))) == 1, "the restart goes on in the same folder"
    same_end(latest.through(whole / "outputs/toy_gan-digits/latest"), run)

    process = torchrun(ended, 2, *arguments[:-1], "train.steps=1000000")
    kill_one(process, ended)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - began < 40
    assert not workers(process)


def kill_one(process: subprocess.Popen[str], folder: Path) -> Path:
    """SIGKILL the second rank once there is a checkpoint; returns the checkpoint's path."""
    wait_for(folder / "outputs" / "latest", process)
    last = latest.through(folder / "outputs" / "latest") / "checkpoints" / "last.pt"
    wait_for(last, process)
    os.kill(workers(process)[-1], signal.SIGKILL)
    return last.resolve()


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["trian"], 2)])
def test_a_rank_ends_without_a_teardown_and_with_its_words_and_status(words: list[str], status: int) -> None:
    script = (
        "import atexit, runpy, sys; atexit.register(print, 'torn down'); "
        f"sys.argv[1:] = {words}; runpy.run_module('gentrain', run_name='__main__')"
    )
    for ranks in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment(WORLD_SIZE=ranks), capture_output=True, text=True
        )
        assert done.returncode == status
        assert "gentrain" in done.stdout + done.stderr
        assert ("torn down" in done.stdout) == (ranks == "1")
