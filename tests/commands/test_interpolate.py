"""`gentrain interpolate`: rows between two ends, on the arc or on the line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from running import Ended, toy
from torch import Tensor

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.commands.interpolate import plane, spherical, straight
from gentrain.errors import UserError
from gentrain.images import grid


def shown(path: Path) -> Tensor:
    """A grey picture's pixels, [height, width]."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture))


def test_rows_between_draws_from_the_prior(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    done = gentrain("interpolate", "rows=3", "columns=5", "seed=11")
    model: Any = package.load(trained.conv)
    torch.manual_seed(11)
    ends = torch.randn(6, 4)
    weights = torch.linspace(0, 1, 5)
    z = torch.cat([spherical(ends[i], ends[i + 1], weights) for i in (0, 2, 4)])
    expected = grid(model.latents_to_images(z), 17, columns=5)
    assert torch.equal(shown(trained.conv / "interpolations.png"), expected[0])
    assert expected.shape == (1, 3 * 58 + 2, 5 * 58 + 2)
    then = follow(done)
    assert then.status == 0, then.err
    assert (trained.conv / "latents.npz").is_file()


def test_between_images_pair_by_pair(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """The ends of a row are the reconstructions of its two images."""
    done = gentrain("interpolate", "images=4,9,2,7", "columns=3", "out=x.png")
    assert done.status == 0, done.err
    assert "2 rows between images" in done.out
    data = build_source(compose_train([]).dataset).load()
    x = torch.from_numpy(np.array(data.test.images[[4, 9, 2, 7]]))
    model: Any = package.load(trained.conv)
    z = model.images_to_latents(x)
    ends = model.latents_to_images(z)
    weights = torch.linspace(0, 1, 3)
    middle = torch.stack([spherical(z[0], z[1], weights)[1], spherical(z[2], z[3], weights)[1]])
    middle = model.latents_to_images(middle)
    order = torch.stack([ends[0], middle[0], ends[1], ends[2], middle[1], ends[3]])
    assert torch.equal(shown(Path("x.png")), grid(order, 17, columns=3)[0])


@pytest.mark.parametrize(("images", "found"), [("3", 1), ("0,1,2", 3), ("one.png", 1)])
def test_an_odd_number_of_images(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, images: str, found: int
) -> None:
    Image.new("L", (8, 8), 9).save("one.png")
    ended = gentrain("interpolate", f"images={images}")
    assert ended.status == 2
    assert f"images={images}: expected an even number, found {found}" in ended.one_line()
    assert not (trained.conv / "interpolations.png").exists()


def vectors(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 2**31), st.integers(2, 200))
def test_the_arc_ends_where_it_should_and_keeps_the_norm(seed: int, dims: int) -> None:
    a, b = vectors(seed, 2, dims)
    b = b * (a.norm() / b.norm())
    path = spherical(a, b, torch.linspace(0, 1, 9, dtype=torch.float64))
    assert torch.allclose(path[0], a, rtol=0, atol=1e-10)
    assert torch.allclose(path[-1], b, rtol=0, atol=1e-10)
    assert torch.allclose(path.norm(dim=1), a.norm().expand(9), rtol=1e-7)
    steps = (path[1:] - path[:-1]).norm(dim=1)
    assert torch.allclose(steps, steps[:1].expand(8), rtol=1e-6), "at an even pace"


def test_the_middle_of_a_quarter_circle() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    half = 3 / math.sqrt(2)
    assert torch.allclose(spherical(a, b, torch.tensor([0.5])), torch.tensor([[half, half]]))
    assert torch.allclose(straight(a, b, torch.tensor([0.5])), torch.tensor([[1.5, 1.5]]))


@pytest.mark.parametrize("factor", [1.0, 2.0, 1 + 1e-7, -1.0, 0.0])
def test_where_there_is_no_arc_the_line_is_taken(factor: float) -> None:
    """Parallel, equal or opposite ends, or one at the origin: finite, and the ends still exact."""
    a = vectors(0, 6).float()
    b = factor * a
    path = spherical(a, b, torch.linspace(0, 1, 5))
    assert torch.isfinite(path).all()
    assert torch.allclose(path[0], a, atol=1e-6)
    assert torch.allclose(path[-1], b, atol=1e-6)
    if factor > 0:
        assert torch.allclose(path, straight(a, b, torch.linspace(0, 1, 5)), atol=1e-6)


def test_a_uniform_prior_is_crossed_on_the_line(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toys

    monkeypatch.setattr(toys.ToyGAN, "latent_prior", "uniform")
    assert gentrain("train", *toy("toy_gan", "train.steps=2", "run_dir=run")).status == 0
    done = gentrain("interpolate", "trust=[toys]", "rows=1", "columns=3")
    assert done.status == 0, done.err
    torch.manual_seed(0)
    a, b = torch.rand(2, 8) * 2 - 1
    model: Any = package.load("run", trust=["toys"])
    expected = grid(model.latents_to_images(torch.stack([a, (a + b) / 2, b])), 17, columns=3)
    assert torch.equal(shown(Path("run/interpolations.png")), expected[0])


# The plane of two latents


class OfTwo:
    """Latents alone: what `plane` asks a model for."""

    def __init__(self, prior: str = "gaussian", dim: int = 2) -> None:
        self.latent_prior, self.latent_dim = prior, dim


def test_the_plane_is_even_in_probability_and_reads_like_a_plot() -> None:
    z = plane(OfTwo(), 4, 5, torch.device("cpu")).view(4, 5, 2)  # type: ignore[arg-type]
    p = torch.distributions.Normal(0, 1).cdf(z)
    torch.testing.assert_close(p[0, :, 0], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(p[:, 0, 1], torch.tensor([0.875, 0.625, 0.375, 0.125]))  # upwards
    assert (z[:, :, 0] == z[:1, :, 0]).all()
    assert (z[:, :, 1] == z[:, :1, 1]).all()
    z = plane(OfTwo("uniform"), 2, 2, torch.device("cpu"))  # type: ignore[arg-type]
    torch.testing.assert_close(z, torch.tensor([[-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]))
    with pytest.raises(UserError, match="no prior"):
        plane(OfTwo("none"), 2, 2, torch.device("cpu"))  # type: ignore[arg-type]


def test_the_plane_of_a_trained_model(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("interpolate", "plane=true")
    assert done.status == 2
    assert "expected a model with 2 latent dimensions, found 4" in done.one_line()
    done = gentrain("interpolate", "plane=true", "images=0,1")
    assert done.status == 2
    assert "give one" in done.one_line()
    small = ["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=2", "train.steps=2", "train.batch_size=8"]
    assert gentrain("train", *small, "train.sample_count=1", "run_dir=two").status == 0
    done = gentrain("interpolate", "ckpt=two", "plane=true", "rows=3", "columns=4", "out=plane.png")
    assert done.status == 0, done.err
    model: Any = package.load("two")
    z = plane(model, 3, 4, torch.device("cpu"))
    assert torch.equal(shown(Path("plane.png")), grid(model.latents_to_images(z), 17, columns=4)[0])
