"""What adversarial models alone can be asked for on the command line: codes, truncation, statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import MODELS, Ended

import gentrain as package
from gentrain.cli import main
from gentrain.contracts import StandingStatistics
from gentrain.images import grid

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few steps of two models."""
    made = {}
    for name, more in (("infogan", ["model.codes=[digit:3,slant]"]), ("biggan", [])):
        made[name] = tmp_path_factory.mktemp(name) / "run"
        assert main(["train", *MODELS[name], *FEW, *more, f"run_dir={made[name]}"]) == 0
    return made


def test_a_code_is_swept_and_the_rest_kept(gentrain: Callable[..., Ended], runs: dict[str, Path]) -> None:
    model: Any = package.load(runs["infogan"])
    seen: list[torch.Tensor] = []
    for name, columns, values in (
        ("digit", 3, torch.eye(3)),
        ("slant", 5, torch.linspace(-1, 1, 5)[:, None]),
    ):
        asked = [f"code={name}", "rows=2", "columns=5", "seed=3", f"out={name}.png"]
        done = gentrain("interpolate", f"ckpt={runs['infogan']}", *asked)
        assert done.status == 0, done.err
        assert f"2 draws, each with the code {name}" in done.out
        torch.manual_seed(3)
        z = model.prior_draws(2).repeat_interleave(columns, 0)
        (code,) = (code for code in model.codes if code.name == name)
        z[:, code.place] = values.repeat(2, 1)
        expected = grid(model.latents_to_images(z), 17, columns=columns)
        with Image.open(f"{name}.png") as picture:
            seen.append(torch.from_numpy(np.array(picture)))
        assert torch.equal(seen[-1], expected[0])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["interpolate", "code=slent"], "the model's codes are digit, slant; did you mean slant?"),
        (["interpolate", "code=slant", "images=0,1"], "leave plane and images out"),
        (["sample", "truncation=0.5", "out=x.png"], "truncation cuts off the tails of a normal"),
        (["sample", "truncation=0", "out=x.png"], "truncation"),
        (["sample", "standing=-1", "out=x.png"], "standing"),
    ],
)
def test_mistakes_are_one_line(
    gentrain: Callable[..., Ended], runs: dict[str, Path], arguments: list[str], part: str
) -> None:
    verb, *more = arguments
    done = gentrain(verb, f"ckpt={runs['infogan']}", *more)
    assert done.status == 2
    assert part in done.one_line()
    assert not Path("x.png").exists()


def test_truncated_samples_have_latents_in_bounds_and_statistics_of_their_own(
    gentrain: Callable[..., Ended], runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stood: list[tuple[int, int, float | None]] = []
    monkeypatch.setattr(StandingStatistics, "stand", lambda self, *given: stood.append(given))
    model: Any = package.load(runs["biggan"])
    asked = ["truncation=0.5", "n=7", "label=3", "seed=2", "out=x.npz"]
    done = gentrain("sample", f"ckpt={runs['biggan']}", *asked)
    assert done.status == 0, done.err
    assert stood == [(16, 64, 0.5)]
    torch.manual_seed(2)
    y = torch.full((7,), 3)
    z = model.truncated(model.prior_draws(7, condition=y), 0.5)
    assert z.abs().max() <= 0.5
    with np.load("x.npz") as file:
        assert torch.equal(torch.from_numpy(file["images"]), model.latents_to_images(z, condition=y))
    stood.clear()
    assert gentrain("sample", f"ckpt={runs['biggan']}", "out=y.png").status == 0
    assert not stood
    assert gentrain("sample", f"ckpt={runs['biggan']}", "standing=2", "out=y.png").status == 0
    assert stood == [(2, 64, None)]


def test_statistics_taken_anew_change_what_is_drawn(
    gentrain: Callable[..., Ended], runs: dict[str, Path]
) -> None:
    content = []
    for standing in (0, 4):
        asked = [f"standing={standing}", "n=4", f"out={standing}.npz"]
        done = gentrain("sample", f"ckpt={runs['biggan']}", *asked)
        assert done.status == 0, done.err
        content.append(Path(f"{standing}.npz").read_bytes())
    assert content[0] != content[1]
