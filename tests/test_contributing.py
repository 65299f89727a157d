"""The model that CONTRIBUTING.md adds is a real one: its two files work as they stand there."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import TESTS, Ended

from gentrain.contracts import DataSpec
from gentrain.training import checkpoint

TEXT = (TESTS.parent / "CONTRIBUTING.md").read_text()


@pytest.fixture
def belief_net(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two files, outside the package."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (workplace / "belief_net.py").write_text(code)
    (workplace / "own" / "model").mkdir(parents=True)
    (workplace / "own" / "model" / "belief_net.yaml").write_text(config)
    monkeypatch.syspath_prepend(str(workplace))
    sys.modules.pop("belief_net", None)
    return workplace


def test_it_trains_resumes_samples_and_is_measured(gentrain: Callable[..., Ended], belief_net: Path) -> None:
    settings = ["dataset.binarize=dynamic", "train.steps=100", "run_dir=run"]
    trained = gentrain("train", "--config-dir", "own", "model=belief_net", "trust=[belief_net]", *settings)
    assert trained.status == 0, trained.err
    resumed = gentrain("train", "resume=run", "trust=[belief_net]", "train.steps=150")
    assert resumed.status == 0, resumed.err
    assert checkpoint.load(Path("run/checkpoints/last.pt"))["step"] == 150
    assert gentrain("sample", "trust=[belief_net]").status == 0
    measured = gentrain("eval", "trust=[belief_net]")
    assert measured.status == 0, measured.err
    assert "exact" in measured.out


def test_it_wants_two_levels_and_says_so(gentrain: Callable[..., Ended], belief_net: Path) -> None:
    refused = gentrain("train", "--config-dir", "own", "model=belief_net", "trust=[belief_net]")
    assert refused.status == 2
    assert "dataset.binarize=dynamic" in refused.one_line()


def test_its_probabilities_sum_to_one(belief_net: Path) -> None:
    import belief_net as module

    model = module.BeliefNet(DataSpec(shape=(1, 3, 3), levels=2), weight_scale=1.0).double()
    images = torch.tensor(list(itertools.product([0, 1], repeat=9)), dtype=torch.uint8).view(-1, 1, 3, 3)
    total = model.log_likelihood(images)[0].detach().exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-8)


def test_the_recipe_is_short() -> None:
    section = TEXT.partition("## How to add a model")[2].partition("\nA model with several")[0]
    assert len(section.splitlines()) < 60 + 8  # headings and fences aside
    code = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert sum(len(block.splitlines()) for block in code) < 60
