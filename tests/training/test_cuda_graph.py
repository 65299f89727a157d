"""A captured step gives the numbers of an ordinary one; on the CPU a tape stands in for CUDA's graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import taping
import torch
from comparing import metrics, same
from running import MODELS, OFTEN, Ended, stop_at, toy
from taping import Tape
from torch import nn

from gentrain.contracts import Turn
from gentrain.errors import UserError
from gentrain.training import checkpoint, cuda_graph
from gentrain.training.cuda_graph import UnreadStep

CPU = torch.device("cpu")
SCHEDULE = [
    "+schedule.main._target_=torch.optim.lr_scheduler.MultiStepLR",
    "+schedule.main.milestones=[7,20,33]",
    "+schedule.main.gamma=0.3",
]
#: What the tape is tried on: what a turn has of its own, and what a step reads that changes.
TAPED = {
    "vae_mlp": [*MODELS["vae_mlp"], *SCHEDULE],
    "vae_mlp clipped": [*MODELS["vae_mlp"], "train.clip_grad_norm=0.5", "train.ema=0.9"],
    "vae_mlp bf16": [*MODELS["vae_mlp"], "precision=bf16"],
    "vae": MODELS["vae"],
    "iwae": [
        *["model=iwae", "model.hidden=[[16]]", "model.k=4", "model.warmup_k=2", "model.warmup_steps=12"],
        *["dataset.binarize=dynamic", "train.ema=0.99", *SCHEDULE],
    ],
    "iwae one_backward": ["model=iwae", "model.hidden=[[16]]", "model.k=4", "model.one_backward=true"],
    "glow": [*MODELS["glow"], "precision=fp32"],
    "gan": ["model=gan", "model.channels=4", "model.n_critic=3"],
    "pixelcnn": MODELS["pixelcnn"],
    "sgd": [
        *["model=vae_mlp", "model.hidden=[16]", "train.ema=0.999"],
        *["optim.main._target_=torch.optim.SGD", "+optim.main.momentum=0.9"],
        *["~optim.main.betas", "~optim.main.eps"],
    ],
}


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> type[Tape]:
    """Steps can be captured on the CPU, by a tape."""
    monkeypatch.setitem(cuda_graph.CAPTURES, "cpu", Tape)
    return taping.fresh()


def end(folder: str) -> dict:
    """The last checkpoint, without the clock and what the two runs are called."""
    state = checkpoint.load(Path(folder) / "checkpoints/last.pt")
    state.pop("seconds")
    state.pop("config")
    return state


def test_a_tape_does_the_same_operations_on_the_same_memory() -> None:
    number, x, total = 2.0, torch.ones(3), torch.zeros(3)
    weight = nn.Parameter(torch.ones(3))

    def run() -> None:
        weight.grad = None
        (weight * x * number).sum().backward()
        assert weight.grad is not None
        total.add_(weight.grad + torch.rand(3) * 0)

    torch.manual_seed(0)
    expected = [torch.rand(3) for _ in range(3)][2]
    torch.manual_seed(0)
    replay = Tape(CPU).capture(run)
    assert torch.equal(total, torch.zeros(3)), "capturing changes nothing"
    number = 5.0
    replay()
    assert torch.equal(total, 2 * torch.ones(3)), "a number stays what it was"
    x.fill_(4.0)
    replay()
    assert torch.equal(total, 10 * torch.ones(3)), "a tensor is read again"
    assert torch.equal(torch.rand(3), expected), "random numbers go on"
    with pytest.raises(RuntimeError, match="not permitted"):
        Tape(CPU).capture(lambda: print(float(total[0])))


@pytest.mark.parametrize("name", TAPED)
def test_captured_stopped_and_resumed_to_the_bit(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tape: type[Tape], name: str
) -> None:
    """With log lines, evaluations, pictures, a schedule, an average, and a stop and a resume on the way."""
    arguments = [*TAPED[name], *OFTEN, "train.eval_every=20", "train.sample_every=20", "train.steps=50"]
    done = gentrain("train", *arguments, "run_dir=plain")
    assert done.status == 0, done.err
    assert tape.captured == 0
    graph = "train.cuda_graph=true"
    done = stop_at(gentrain, monkeypatch, 24, *arguments, graph, "run_dir=captured")
    assert done.status == 143, done.err
    sets = {"gan": 2, "iwae": 2}.get(name, 1)  # of due turns, or forms of the loss
    assert tape.captured == sets
    assert tape.warmed == 3 * sets
    done = gentrain("train", "resume=captured")
    assert done.status == 0, done.err
    again = {"gan": 2}.get(name, 1)
    assert tape.captured == sets + again, "a resumed run captures anew"
    assert tape.warmed + tape.replayed == 50
    same(end("plain"), end("captured"))
    assert metrics(Path("plain")) == metrics(Path("captured"))


def test_a_run_may_go_on_without_capture(gentrain: Callable[..., Ended], tape: type[Tape]) -> None:
    arguments = [*TAPED["vae_mlp"], *OFTEN, "train.cuda_graph=true"]
    assert gentrain("train", *arguments, "train.steps=10", "run_dir=run").status == 0
    done = gentrain("train", "resume=run", "train.steps=20", "train.cuda_graph=false")
    assert done.status == 0, done.err
    assert tape.warmed + tape.replayed == 10


def test_a_non_finite_loss_is_found_in_a_replay(gentrain: Callable[..., Ended], tape: type[Tape]) -> None:
    """The learning rate of step 26 throws the weights away, so that the loss of step 27 is not finite."""
    arguments = [*MODELS["vae_mlp"], *OFTEN, *SCHEDULE[:1], "train.steps=60"]
    arguments += ["+schedule.main.milestones=[25]", "+schedule.main.gamma=1e30"]
    lines = []
    for graph in ("false", "true"):
        done = gentrain("train", *arguments, f"train.cuda_graph={graph}", f"run_dir={graph}")
        assert done.status == 1
        lines.append(done.one_line().replace("true/", "false/"))
    assert tape.warmed + tape.replayed == 30, "found with the log line of step 30"
    assert "not finite at step 27, turn main: loss = " in lines[1]
    assert lines[0] == lines[1]
    same(end("false"), end("true"))


# Refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.compile=true"], "train.cuda_graph=true and train.compile=true exclude each other"),
        (["precision=fp16"], "needs precision=fp32 or bf16, found fp16"),
        (["optim.main.fused=false"], "optim.main.fused=true, found Adam with fused=False"),
        (
            ["optim.main._target_=torch.optim.RMSprop", "~optim.main.betas", "~optim.main.fused"],
            "needs Adam, AdamW or SGD with optim.main.fused=true, found RMSprop",
        ),
        (
            [
                "schedule.main={_target_: torch.optim.lr_scheduler.OneCycleLR, max_lr: 1, total_steps: 9999}",
            ],
            "set schedule.main.cycle_momentum=false",
        ),
        (["model=gan", "model.objective=wgan_gp"], "turn discriminator differentiates twice"),
    ],
)
def test_what_cannot_be_captured_is_refused_before_anything_is_made(
    gentrain: Callable[..., Ended], workplace: Path, tape: type[Tape], arguments: list[str], words: str
) -> None:
    done = gentrain("train", "model=vae_mlp", "train.cuda_graph=true", *arguments)
    assert done.status == 2
    assert words in done.one_line()
    assert not list(workplace.iterdir())


def test_several_processes_are_refused() -> None:
    with pytest.raises(UserError, match="needs a single process, found 2"):
        cuda_graph.check_run(torch.device("cuda"), "fp32", 2, False)


@pytest.mark.parametrize("arguments", [["train.cuda_graph=true"], ["experiment=vae_mnist_paper"]])
def test_it_needs_a_gpu(gentrain: Callable[..., Ended], workplace: Path, arguments: list[str]) -> None:
    done = gentrain("train", *arguments, "device=cpu")
    assert done.status == 2
    assert "train.cuda_graph=true needs device=cuda, found cpu" in done.one_line()
    assert not list(workplace.iterdir())


def test_a_loss_that_reads_its_step_must_say_so(gentrain: Callable[..., Ended], tape: type[Tape]) -> None:
    adam = ["optim.main._target_=torch.optim.Adam", "+optim.main.fused=true"]
    done = gentrain("train", *toy("toy_flow", *OFTEN, *adam, "train.cuda_graph=true", "run_dir=run"))
    assert done.status == 2
    assert "the loss of turn main reads its step" in done.one_line()
    assert not list(Path("run/checkpoints").glob("*.pt"))


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s < 3,
        lambda s: s == 3,
        lambda s: s in (1, 2),
        lambda s: 1 / (1 + s),
        lambda s: min(s, 4),
        lambda s: torch.ones(()) * s,
        lambda s: float(s),
        lambda s: f"{s}",
        lambda s: [1, 2][s],
        lambda s: bool(s),
    ],
)
def test_any_use_of_a_step_is_found(use: Callable[[object], object]) -> None:
    with pytest.raises(UserError, match="turn main reads its step"):
        use(UnreadStep("main"))


def test_the_forms_of_a_loss() -> None:
    def turn(changes: list[int] | None) -> Turn:
        return Turn("main", [], lambda b, s: (torch.zeros(()), {}), changes=changes)

    assert [turn([3, 5]).form(step) for step in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    assert [turn([]).form(step) for step in range(3)] == [0, 0, 0]
    assert turn(None).form(9) == 0
