"""When a run has ended, and what gives it more."""

from __future__ import annotations

import pytest

from gentrain.training.plan import Ended, Outcome, Plan

PLAN = Plan(
    steps=10,
    batch_size=4,
    log_every=1,
    eval_every=1,
    sample_every=1,
    checkpoint_every=1,
    keep=1,
    sample_count=1,
    seed=0,
    minutes=1.5,
    patience=2,
)


@pytest.mark.parametrize(
    ("step", "time_is_up", "stale", "ended"),
    [
        (9, False, 1, None),
        (10, False, 0, Ended("", "train.steps=20")),
        (10, True, 2, Ended("", "train.steps=20 train.minutes=3 train.patience=4")),
        (5, True, 0, Ended("train.minutes=1.5 are over", "train.minutes=3")),
        (5, False, 2, Ended("no better figure in 2 evaluations", "train.patience=4")),
    ],
)
def test_what_is_proposed_is_enough_to_go_on(
    step: int, time_is_up: bool, stale: int, ended: Ended | None
) -> None:
    assert PLAN.ended(step, time_is_up, stale) == ended


def test_what_was_found_in_words() -> None:
    def found(evaluation: dict[str, float], checks: dict[str, float], kind: str = "") -> str:
        return Outcome(1, 1.0, 1.0, evaluation, None, checks, kind=kind).figures

    evaluation, checks = {"eval/nats": 84.0, "eval/bits_per_dim": 1.5}, {"check/diversity": 0.25}
    assert found(evaluation, checks, "ELBO") == "validation nats 84.0000, bits_per_dim 1.5000 (ELBO)"
    assert found({}, checks) == "check diversity 0.2500"
    assert found({}, {}) == ""
