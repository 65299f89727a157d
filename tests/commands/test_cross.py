"""`gentrain cross`: children between two parents, drawn again to the bit from their lineage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from running import MODELS, Ended

import gentrain as package
from gentrain.cli import main
from gentrain.commands.cross import Individual, child, picture
from gentrain.contracts import LatentsToImages
from gentrain.schemas import CrossConfig

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few steps of models that mix labels, take one, take none, and have no latents."""
    made = {}
    for name in ("biggan", "cvae", "vae_mlp", "pixelcnn"):
        made[name] = tmp_path_factory.mktemp(name) / "run"
        assert main(["train", *MODELS[name], *FEW, f"run_dir={made[name]}"]) == 0
    return made


def tiles(path: str, count: int, side: int = 8) -> list[np.ndarray]:
    """The lower right quarters of the last row's pictures, where no number is."""
    with Image.open(path) as sheet:
        array = np.array(sheet)
    width = array.shape[1] // count
    return [array[-width // 2 :, (i + 1) * width - width // 2 : (i + 1) * width] for i in range(count)]


@pytest.mark.parametrize("name", ["biggan", "cvae", "vae_mlp"])
def test_children_are_drawn_again_from_their_lines(
    gentrain: Callable[..., Ended], runs: dict[str, Path], name: str
) -> None:
    parents = "parents=[3:5,8:5]" if name == "cvae" else "parents=[3,8]"
    asked = [f"ckpt={runs[name]}", parents, "children=3", "columns=3", "n=9", "seed=4"]
    done = gentrain("cross", *asked, "out=kids.png")
    assert done.status == 0, done.err
    kept = json.loads(Path("kids.json").read_text())
    children = [Individual(**entry) for entry in kept["children"]]
    model: Any = package.load(runs[name])
    torch.manual_seed(4)
    z = model.prior_draws(9)
    for one in children:
        assert [told["number"] for told in one.parents] == [3, 8]
        assert [told["share"] for told in one.parents] == [0.5, 0.5]
        assert torch.equal(torch.tensor(one.parents[0]["latents"]), z[3]), "exactly"
    assert len({tuple(one.latents) for one in children}) == 3
    drawn = [picture(one, model, torch.device("cpu")) for one in children]
    again = gentrain("cross", f"ckpt={runs[name]}", "lineage=kids.json", "columns=3", "out=again.png")
    assert again.status == 0, again.err
    for a, b in zip(tiles("kids.png", 3), tiles("again.png", 3), strict=True):
        assert np.array_equal(a, b)
    assert all(
        torch.equal(x, picture(one, model, torch.device("cpu")))
        for x, one in zip(drawn, children, strict=True)
    )
    more = gentrain(
        "cross", f"ckpt={runs[name]}", "lineage=kids.json", "parents=[0,2]", "out=grandchildren.png"
    )
    assert more.status == 0, more.err
    grandchildren = json.loads(Path("grandchildren.json").read_text())["children"]
    assert len(grandchildren) == 8
    assert grandchildren[0]["parents"][1]["latents"] == children[2].latents


class Bare(LatentsToImages):
    """Latents alone."""

    def __init__(self, prior: str) -> None:
        super().__init__(package.DataSpec((1, 2, 2)))
        self.latent_prior, self.latent_dim = prior, 400  # type: ignore[assignment]


@pytest.mark.parametrize("prior", ["gaussian", "uniform"])
def test_a_child_lies_between_its_parents_and_moves_with_the_temperature(prior: str) -> None:
    model = Bare(prior)
    torch.manual_seed(0)
    a, b = model.prior_draws(2)
    parents = [Individual(z.tolist(), w, [], {}) for z, w in ((a, [1.0, 0.0]), (b, [1.0, 0.0]))]

    def made(mix: float, temperature: float, seed: int = 0) -> torch.Tensor:
        config = OmegaConf.structured(CrossConfig(mix=mix, temperature=temperature))
        return torch.tensor(child(parents, model, config, seed).latents)

    torch.testing.assert_close(made(0.0, 0.0), a, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made(1.0, 0.0), b, atol=1e-5, rtol=1e-5)
    middle = made(0.5, 0.0)
    cosines = [float(torch.nn.functional.cosine_similarity(middle, z, dim=0)) for z in (a, b)]
    assert cosines[0] == pytest.approx(cosines[1], abs=0.06)
    assert min(cosines) > 0.6
    distances = [float((made(0.5, t) - middle).norm()) for t in (0.1, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert not torch.equal(made(0.5, 0.5, 1), made(0.5, 0.5, 2))
    if prior == "gaussian":
        assert abs(float(torch.corrcoef(torch.stack([a, made(0.5, 1.0)]))[0, 1])) < 0.2, "not a's own noise"
    if prior == "gaussian":
        for t in (0.0, 0.5, 1.0):
            assert float(made(0.5, t).norm()) == pytest.approx(math.sqrt(400), rel=0.15), "as likely as draws"
    else:
        assert made(0.5, 1.0).abs().max() <= 1


def test_class_weights_are_mixed_by_the_share(gentrain: Callable[..., Ended], runs: dict[str, Path]) -> None:
    asked = ["parents=[0:7,1:3]", "mix=0.25", "temperature=0", "children=1", "out=x.png"]
    done = gentrain("cross", f"ckpt={runs['biggan']}", *asked)
    assert done.status == 0, done.err
    (one,) = json.loads(Path("x.json").read_text())["children"]
    assert one["weights"] == [0, 0, 0, 0.25, 0, 0, 0, 0.75, 0, 0]


def damaged(kept: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A lineage whose only child has other entries; a number stands for as many latents."""
    (one,) = kept["children"]
    if isinstance(changes.get("latents"), float):
        changes["latents"] = [changes["latents"]] * len(one["latents"])
    return {**kept, "children": [{**one, **changes}]}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda k: [], "expected a file that gentrain cross wrote, version 1"),
        (lambda k: {**k, "version": 2}, "version 1, found another"),
        (lambda k: {**k, "weights": "0"}, "it is of another checkpoint"),
        (lambda k: {**k, "children": []}, "expected children, one or more, found none"),
        (lambda k: {**k, "children": 3}, "expected children, one or more"),
        (
            lambda k: {**k, "children": [*k["children"], 3]},
            "child 1: expected latents, weights",
        ),
        (lambda k: {**k, "children": [{"latents": [0.0]}]}, "child 0: expected latents, weights"),
        (lambda k: damaged(k, latents=[0.5]), "child 0: latents: expected"),
        (lambda k: damaged(k, latents="long"), "child 0: latents: expected"),
        (lambda k: damaged(k, latents=math.nan), "finite numbers"),
        (lambda k: damaged(k, latents=1e300), "expected numbers of at most 100"),
        (lambda k: damaged(k, weights=None), "child 0: weights: expected 10"),
        (lambda k: damaged(k, weights=[7] * 10), "numbers of at most 1"),
        (lambda k: damaged(k, weights=[True]), "child 0: weights: expected 10"),
        (lambda k: damaged(k, parents=3), "child 0: parents"),
        (lambda k: damaged(k, how=[]), "child 0: how"),
    ],
)
def test_a_damaged_lineage_is_one_line(
    gentrain: Callable[..., Ended], runs: dict[str, Path], change: Callable[[Any], Any], part: str
) -> None:
    done = gentrain("cross", f"ckpt={runs['biggan']}", "parents=[0,1]", "children=1", "out=kids.png")
    assert done.status == 0, done.err
    kept = json.loads(Path("kids.json").read_text())
    Path("damaged.json").write_text(json.dumps(change(kept)))
    done = gentrain("cross", f"ckpt={runs['biggan']}", "lineage=damaged.json", "out=x.png")
    assert done.status == 2, done.err
    assert "lineage=damaged.json" in done.one_line()
    assert part in done.one_line()
    assert not Path("x.png").exists()


def test_a_lineage_that_nests_without_end_is_one_line(
    gentrain: Callable[..., Ended], runs: dict[str, Path]
) -> None:
    Path("deep.json").write_text("[" * 100_000)
    done = gentrain("cross", f"ckpt={runs['biggan']}", "lineage=deep.json", "out=x.png")
    assert done.status == 2
    assert "expected a file that gentrain cross wrote, found no JSON" in done.one_line()


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("biggan", ["parents=[64]"], "parents: expected numbers 0 to 63, as 12 or 12:label, found 64"),
        ("biggan", ["parents=[a]"], "expected numbers 0 to 63"),
        ("biggan", ["parents=[0,1,2]"], "expected one or two, found 3"),
        ("biggan", ["parents=3"], "expected a list of numbers"),
        ("biggan", ["parents=[0:11]"], "expected 0 to 9, found '11'"),
        ("biggan", ["parents=[0]", "mix=1.5"], "mix"),
        ("biggan", ["lineage=none.json"], "lineage=none.json: No such file"),
        ("biggan", ["lineage=other.json"], "it is of another checkpoint"),
        ("biggan", ["lineage=broken.json"], "expected a file that gentrain cross wrote"),
        ("cvae", ["parents=[0:1,1:2]"], "they have different labels, and this model draws with one alone"),
        ("vae_mlp", ["parents=[0:1]"], "takes no labels; give numbers alone"),
        ("pixelcnn", ["parents=[0]"], "pixelcnn cannot do this"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    gentrain: Callable[..., Ended], runs: dict[str, Path], name: str, arguments: list[str], part: str
) -> None:
    Path("broken.json").write_text('{"children": 3}')
    other = {"version": 1, "weights": "0", "checkpoint": "a.pt", "children": []}
    Path("other.json").write_text(json.dumps(other))
    done = gentrain("cross", f"ckpt={runs[name]}", *arguments, "out=x.png")
    assert done.status == 2
    assert part in done.one_line()
    assert not Path("x.png").exists()
    assert not Path("x.json").exists()
