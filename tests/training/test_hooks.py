"""What a model may say beside its loss: warnings, figures too dear for every step, that it went bad."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import toys
from running import Ended, toy
from torch import Tensor

from gentrain.contracts import Batch
from gentrain.progress import shown, track

SHORT = ["dataset=digits", "run_dir=run", "train.steps=40", "train.log_every=10", "train.eval_every=20"]


def metrics() -> list[dict[str, float]]:
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_a_warning_is_shown_once_and_the_run_goes_on(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[str, float]] = []

    def warnings(self: toys.ToyGAN, figures: Mapping[str, float]) -> list[str]:
        seen.append(figures)
        return ["the critic is too strong; lower optim.critic.lr"]

    monkeypatch.setattr(toys.ToyGAN, "warnings", warnings)
    ended = gentrain("train", *toy("toy_gan"), *SHORT)
    assert ended.status == 0
    text = ended.out + ended.err
    assert text.count("warning: step 10: the critic is too strong; lower optim.critic.lr") == 1
    assert text.count("too strong") == 1
    assert len(seen) == 4
    assert {"loss/critic/penalty", "grad_norm/generator", "lr/critic"} <= set(seen[0])


def test_dear_figures_are_logged_with_each_evaluation(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Batch] = []

    def examine(self: toys.ToyFlow, batch: Batch) -> dict[str, Tensor]:
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.rand(3)  # apart from the run's random state
        batches.append(batch)
        return {"brightness": batch.x.float().mean()}

    plain = gentrain("train", *toy("toy_flow"), *SHORT, "dataset.validation=100")
    assert plain.status == 0
    without = metrics()
    Path("run").rename("plain")
    monkeypatch.setattr(toys.ToyFlow, "examine", examine)
    ended = gentrain("train", *toy("toy_flow"), *SHORT, "dataset.validation=100")
    assert ended.status == 0
    assert len(batches) == 2
    assert torch.equal(batches[0].x, batches[1].x)
    brightness = {line["step"]: line["check/brightness"] for line in metrics() if "check/brightness" in line}
    assert brightness == dict.fromkeys((20, 40), float(batches[0].x.float().mean()))

    def losses(lines: list[dict[str, float]]) -> list[float]:
        return [line["loss/total"] for line in lines if "loss/total" in line]

    assert losses(metrics()) == losses(without)


def test_without_validation_images_a_training_batch_is_examined(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(toys.ToyFlow, "examine", lambda self, batch: sizes.append(len(batch.x)) or {})
    ended = gentrain("train", *toy("toy_flow"), *SHORT, "dataset.validation=0", "train.batch_size=24")
    assert ended.status == 0
    assert sizes == [24, 24]


def test_a_bar_is_drawn_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def bar(items: range, unit: str, **more: object) -> range:
        made.append(unit)
        return items

    monkeypatch.setattr("tqdm.tqdm", bar)
    assert list(track(range(3), "row")) == [0, 1, 2]
    assert made == []
    with shown():
        assert list(track(range(3), "row")) == [0, 1, 2]
    assert made == ["row"]
    assert list(track(range(2), "row")) == [0, 1]
    assert made == ["row"]
