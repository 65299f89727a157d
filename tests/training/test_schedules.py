"""Learning-rate schedules: their values, one after the other, on resume, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import metrics, same
from running import Ended, stop_at, toy
from torch.optim.lr_scheduler import LRScheduler

from gentrain.commands.schedules import schedule_of
from gentrain.errors import UserError
from gentrain.training import checkpoint
from gentrain.training.schedules import ConstantThenLinear, WarmupCosine

OURS = "gentrain.training.schedules"
TORCH = "torch.optim.lr_scheduler"


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, momentum=0.9)


def rates(make: Callable[[torch.optim.Optimizer], LRScheduler], n: int, *base: float) -> list[list[float]]:
    """The rates of updates 0 .. n-1, of each parameter group."""
    made = optimizer(*base)
    schedule = make(made)
    found = []
    for _ in range(n):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        schedule.step()
    return found


# Values


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("final", [0.0, 0.125])
def test_a_warm_up_before_a_cosine(warmup: int, final: float) -> None:
    found = rates(lambda o: WarmupCosine(o, warmup, 20, final), 30, 2.0, 0.5)
    for group, base in enumerate((2.0, 0.5)):
        for n in range(30):
            if n < warmup:
                expected = base * (n + 1) / (warmup + 1)
            elif n < 20:
                angle = math.pi * (n - warmup) / (20 - warmup)
                expected = final + 0.5 * (base - final) * (1 + math.cos(angle))
            else:
                expected = final
            assert found[n][group] == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert found[warmup][group] == base == max(rate[group] for rate in found)


@pytest.mark.parametrize("constant", [0, 6])
@pytest.mark.parametrize("final", [0.0, 0.25])
def test_a_constant_before_a_line(constant: int, final: float) -> None:
    found = [rate for (rate,) in rates(lambda o: ConstantThenLinear(o, constant, 10, final), 15, 2.0)]
    assert found[: constant + 1] == [2.0] * (constant + 1)
    steps = [b - a for a, b in zip(found[constant:10], found[constant + 1 : 11], strict=True)]
    assert steps == pytest.approx([(final - 2.0) / (10 - constant)] * (10 - constant))
    assert found[10:] == [final] * 5


def test_torchs_own_one_after_the_other() -> None:
    """A tenth for 4 updates, the whole rate for 3, then a cosine."""
    node = [
        {"_target_": f"{TORCH}.ConstantLR", "factor": 0.1, "total_iters": 100, "updates": 4},
        {"_target_": f"{TORCH}.ConstantLR", "factor": 1.0, "updates": 3},
        {"_target_": f"{TORCH}.CosineAnnealingLR", "T_max": 5},
    ]
    found = [rate for (rate,) in rates(lambda o: schedule_of(node, "main", o), 12, 3.0)]
    assert found[:4] == pytest.approx([0.3] * 4)
    assert found[4:7] == pytest.approx([3.0] * 3)
    assert found[7:] == pytest.approx([1.5 * (1 + math.cos(math.pi * n / 5)) for n in range(5)])


def test_ours_in_a_sequence_begin_anew() -> None:
    node = [
        {"_target_": "constant_then_linear", "constant": 2, "total": 4, "updates": 4},
        {"_target_": "warmup_cosine", "warmup": 3, "total": 6},
    ]
    found = [rate for (rate,) in rates(lambda o: schedule_of(node, "main", o), 10, 4.0)]
    assert found[:4] == [4.0, 4.0, 4.0, 2.0]
    alone = rates(lambda o: WarmupCosine(o, 3, 6), 6, 4.0)
    assert found[4:] == [rate for (rate,) in alone]


# Trained with

WARM = [
    "+schedule.main._target_=warmup_cosine",
    "+schedule.main.warmup=8",
    "+schedule.main.total='${train.steps}'",
]
LIST = (
    f"+schedule.main=[{{_target_: {TORCH}.LinearLR, start_factor: 0.25, total_iters: 8, updates: 8}}, "
    f"{{_target_: {TORCH}.CosineAnnealingLR, T_max: 8}}]"
)
RUN = ["dataset=digits", "train.log_every=1", "train.eval_every=100", "train.sample_every=100"]


def train(gentrain: Callable[..., Ended], *arguments: str) -> Ended:
    done = gentrain("train", *arguments)
    assert done.status == 0, done.err
    return done


@pytest.mark.parametrize("schedule", [WARM, [LIST]], ids=["warmup_cosine", "list"])
@pytest.mark.parametrize("step", [5, 8, 11])
def test_stopped_within_it_and_resumed_to_the_bit(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, schedule: list[str], step: int
) -> None:
    arguments = [*toy("toy_flow"), *RUN, *schedule, "train.steps=16"]
    train(gentrain, *arguments, "run_dir=whole")
    assert stop_at(gentrain, monkeypatch, step, *arguments, "run_dir=broken").status == 143
    resumed = train(gentrain, "resume=broken", "trust=[toys]")
    assert "schedule.main is now" not in resumed.out
    assert "climbs" not in resumed.err
    a, b = (checkpoint.load(Path(run, "checkpoints/last.pt")) for run in ("whole", "broken"))
    for part in ("model", "ema", "turns", "random"):
        same(a[part], b[part])
    assert metrics(Path("whole")) == metrics(Path("broken"))


def learning(run: str) -> list[float]:
    return [line["lr/main"] for line in metrics(Path(run)) if "lr/main" in line]


FOLLOWS = LIST.replace("T_max: 8", "T_max: '${train.steps}'")


@pytest.mark.parametrize("schedule", [WARM, [FOLLOWS]], ids=["warmup_cosine", "list"])
def test_a_longer_run_has_the_rates_of_one_that_was_so_long_from_the_start(
    gentrain: Callable[..., Ended], schedule: list[str]
) -> None:
    train(gentrain, *toy("toy_flow"), *RUN, *schedule, "train.steps=20", "run_dir=straight")
    train(gentrain, *toy("toy_flow"), *RUN, *schedule, "train.steps=12", "run_dir=longer")
    assert learning("longer") != learning("straight")[:12]
    resumed = train(gentrain, "resume=longer", "train.steps=20", "trust=[toys]")
    assert "schedule.main is now that of a run of 20 steps" in resumed.out
    assert learning("longer")[12:] == learning("straight")[12:]


def test_what_does_not_fit_the_runs_length_is_said(gentrain: Callable[..., Ended]) -> None:
    def said(*schedule: str) -> str:
        done = train(gentrain, *toy("toy_flow"), *RUN, *schedule, "train.steps=16", "dry_run=true")
        return "\n".join(line for line in done.err.splitlines() if "schedule" in line)

    assert said(*WARM) == ""
    assert said(LIST) == ""
    short = said(*WARM[:2], "+schedule.main.total=12")
    assert "schedule.main.total=12: the schedule ends at step 12 of 16, and the rate stays at 0" in short
    assert "schedule.main.total=${train.steps} follows the run's length" in short
    long = said(*WARM[:2], "+schedule.main.total=90")
    assert "schedule.main.total=90: the schedule ends at step 90, after the run's 16" in long
    climbs = said(LIST.replace("T_max: 8", "T_max: 5"))
    assert "schedule.main[1].T_max=5: the schedule ends at step 13 of 16, and the rate climbs again" in climbs
    assert "schedule.main[1].T_max=8 is its share of the run" in climbs
    never = said(LIST.replace("updates: 8", "updates: 20"))
    assert "schedule.main[1] begins at step 20, after the run's 16" in never


# Refused

REFUSED: list[tuple[Any, str]] = [
    ({"_target_": "warmup_cosine", "warmup": 9, "total": 9}, "total must be above warmup=9, found 9"),
    ({"_target_": "warmup_cosine", "warmup": -1, "total": 9}, "warmup must be at least 0 updates, found -1"),
    ({"_target_": "warmup_cosine", "warmup": 1}, "schedule.main.total is missing: WarmupCosine needs it"),
    (
        {"_target_": "warmup_cosine", "warmup": 1.5, "total": 9},
        "schedule.main.warmup: expected int, found 1.5",
    ),
    ({"_target_": "constant_then_linear", "constant": 1, "total": 9, "final": -1}, "found -1"),
    (
        {"_target_": "warm_cosine"},
        "schedule.main._target_: no schedule warm_cosine; did you mean warmup_cosine?",
    ),
    ({"_target_": f"{OURS}.Schedule", "first": 1, "total": 2, "final": 0.0}, "abstract"),
    ([], "schedule.main: expected at least one schedule, found []"),
    (
        [{"_target_": f"{TORCH}.ConstantLR"}, {"_target_": f"{TORCH}.ConstantLR"}],
        "schedule.main[0].updates: expected how many updates",
    ),
    (
        [{"_target_": f"{TORCH}.ConstantLR", "updates": 0}, {"_target_": f"{TORCH}.ConstantLR"}],
        "schedule.main[0].updates: expected how many updates",
    ),
    ([{"_target_": f"{TORCH}.ConstantLR", "updates": 5}], "schedule.main[0].updates: the last schedule"),
    ([{"_target_": f"{TORCH}.ConstantLR", "factr": 5}], "unknown key schedule.main[0].factr"),
    ([{"_target_": "os.system"}], "schedule.main[0]._target_: 'os.system' is refused"),
    (["warmup_cosine"], "schedule.main[0]: expected a _target_ and its settings"),
    (
        [
            {"_target_": f"{TORCH}.ConstantLR", "updates": 5},
            {"_target_": f"{TORCH}.OneCycleLR", "max_lr": 1.0, "total_steps": 9},
        ],
        "OneCycleLR sets the optimiser's own rate and momentum: it cannot be one of several",
    ),
]


@pytest.mark.parametrize(("node", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refused_in_one_line(node: Any, words: str) -> None:
    with pytest.raises(UserError) as refused:
        schedule_of(node, "main", optimizer(1.0))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "schedule.main" in str(refused.value)
