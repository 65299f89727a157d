"""`gentrain eval metrics=[frechet,kid,prdc,labels,codes,neighbour]`: what is printed is what is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import MODELS, Ended
from titled_sheets import around

import gentrain as package
from gentrain.cli import main
from gentrain.commands.measures import features, neighbour
from gentrain.metrics import classifier
from gentrain.metrics.classifier import Recipe
from gentrain.metrics.distances import frechet

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few steps of three models."""
    made = {}
    for name in ("infogan", "bigan", "biggan"):
        made[name] = tmp_path_factory.mktemp(name) / "run"
        assert main(["train", *MODELS[name], *FEW, f"run_dir={made[name]}"]) == 0
    return made


def figures(run: Path, file: str) -> dict[str, Any]:
    return json.loads((run / file).read_text(), parse_constant=pytest.fail)


def test_distances_name_what_they_are_of(
    gentrain: Callable[..., Ended], runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "RECIPE", Recipe(widths=(8, 8), steps=60))
    run = runs["biggan"]
    done = gentrain("eval", f"ckpt={run}", "metrics=[frechet,kid,prdc,labels]", "n=100", "limit=90")
    assert done.status == 0, done.err
    found = {name: figures(run, f"eval_{name}_100.json") for name in ("frechet", "kid", "prdc", "labels")}
    for name in ("frechet", "kid", "prdc"):
        facts = found[name]
        assert (facts["extractor"], facts["resize"], facts["features"]) == ("classifier", None, 128)
        assert (facts["samples"], facts["images"], facts["split"], facts["seed"]) == (100, 90, "test", 0)
        assert f"of classifier {facts['weights']}, no resize, 100 samples, seed 0, 90 test images" in done.out
    assert f"frechet {found['frechet']['frechet']:.4f} " in done.out
    ladder = [found["frechet"][f"frechet_train_{rung}"] for rung in ("none", "blur", "noise")]
    assert 0 < ladder[0] < min(ladder[1:])
    assert found["frechet"]["frechet"] > ladder[0], "an untrained generator is farther than training images"
    assert "note    fewer images than features" in done.out
    assert f"{found['kid']['kid']:.5f} +- {found['kid']['kid_stderr']:.5f}" in done.out
    assert f"{found['prdc']['coverage']:.4f} coverage" in done.out
    assert set(found["labels"]["accuracy_of"]) == set("0123456789")
    assert found["labels"]["images"] == 100
    again = gentrain("eval", f"ckpt={run}", "metrics=[frechet]", "n=100", "limit=90", "truncation=0.5")
    assert again.status == 0, again.err
    other = figures(run, "eval_frechet_100-2.json")
    assert other["truncation"] == 0.5
    assert other["frechet"] != found["frechet"]["frechet"]


def test_features_of_a_network_of_pictures(gentrain: Callable[..., Ended], runs: dict[str, Path]) -> None:
    run = runs["infogan"]
    done = gentrain("eval", f"ckpt={run}", "metrics=[frechet,kid]", "features=lite0", "n=40", "limit=40")
    assert done.status == 0, done.err
    found = figures(run, "eval_frechet_40.json")
    assert (found["extractor"], found["weights"]) == ("lite0", "579344248a93")
    assert (found["resize"], found["features"]) == ("bicubic to 96x96", 1280)
    assert "1,280 features of lite0 579344248a93, bicubic to 96x96, 40 samples, seed 0, 40 test" in done.out
    assert "fid" not in found, "only Inception's features have that name"
    assert 0 < found["frechet_train_none"] < found["frechet"]
    kept = figures(run, "eval_kid_40.json")
    assert kept["kid"] > 10 * abs(kept["kid_train"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            ["features=inception"],
            "6726825d.pth: No such file or directory; get weights-inception-2015-12-05-6726825d.pth from ",
        ),
        (["features=inception", "inception=nowhere.pth"], "nowhere.pth: No such file or directory; get "),
        (["features=vgg"], "expected one of classifier, lite0, inception"),
    ],
)
def test_an_extractor_that_cannot_be_had_is_one_line(
    gentrain: Callable[..., Ended], runs: dict[str, Path], words: list[str], part: str
) -> None:
    before = set(runs["infogan"].iterdir())
    done = gentrain("eval", f"ckpt={runs['infogan']}", "metrics=[frechet]", "n=20", *words)
    assert done.status == 2
    assert part in done.one_line()
    assert set(runs["infogan"].iterdir()) == before


def test_codes_and_neighbours(gentrain: Callable[..., Ended], runs: dict[str, Path]) -> None:
    done = gentrain("eval", f"ckpt={runs['infogan']}", "metrics=[codes]", "n=60", "limit=50")
    assert done.status == 0, done.err
    found = figures(runs["infogan"], "eval_codes_test_first_50.json")
    assert found["error"] == found["error_category"]
    assert found["information"] == found["information_category"]
    assert sorted(found["matched"]) == list("0123456789")
    assert f"{found['error']:.4f} +- " in done.out
    assert set(found) >= {"information_first", "slant_first", "thickness_second"}
    done = gentrain("eval", f"ckpt={runs['bigan']}", "metrics=[neighbour]", "limit=50")
    assert done.status == 0, done.err
    found = figures(runs["bigan"], "eval_neighbour_test_first_50.json")
    assert found["pixels_accuracy"] > 0.9
    assert found["latents_features"] == found["pca_features"] == found["untrained_features"] == 50
    assert found["latents_accuracy"] != found["untrained_accuracy"]
    texts = re.findall(r"([\d.]+)% \+- [\d.]+% by the nearest of", done.out)
    kinds = ("latents", "pixels", "pca", "untrained")
    assert texts == [f"{100 * found[f'{kind}_accuracy']:.2f}" for kind in kinds]


def test_a_walk_along_a_code_has_headings(gentrain: Callable[..., Ended], runs: dict[str, Path]) -> None:
    codes = runs["infogan"]
    for code in ("category", "first"):
        walk = ["interpolate", f"ckpt={codes}", f"code={code}", "rows=2", "columns=3"]
        for titles in ("false", "true"):
            done = gentrain(*walk, f"titles={titles}", f"out={titles}.png")
            assert done.status == 0, done.err
        sheet, top, left, height = around("false.png", "true.png")
        assert (sheet[top - 58 : top, left:] < 128).any(), "above the columns"
        for row in range(2):
            part = slice(top + row * height // 2, top + (row + 1) * height // 2)
            assert (sheet[part, :left] < 128).any(), "beside each row"


@pytest.mark.parametrize(
    ("name", "metric", "part"),
    [
        ("infogan", "labels", "is given no label"),
        ("bigan", "codes", "has no codes"),
        ("infogan", "neighbour", "has no encoder"),
    ],
)
def test_a_model_without_is_told(
    gentrain: Callable[..., Ended], runs: dict[str, Path], name: str, metric: str, part: str
) -> None:
    done = gentrain("eval", f"ckpt={runs[name]}", f"metrics=[{metric}]")
    assert done.status == 2
    assert part in done.one_line()


def test_too_few_images_are_one_line(
    gentrain: Callable[..., Ended], runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "RECIPE", Recipe(widths=(8, 8), steps=6))
    done = gentrain("eval", f"ckpt={runs['biggan']}", "metrics=[kid]", "n=10")
    assert done.status == 2
    assert "metrics=[kid]: this takes at least 20 samples and images, found n=10; set n=20" in done.one_line()


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        (["n=19"], "metrics=[kid]: this takes at least 20 samples and images, found n=19; set n=20 or more"),
        (["n=20", "limit=5"], "metrics=[kid]: this takes at least 20 samples and images, found limit=5"),
        (["n=5", "metrics=[prdc]"], "metrics=[prdc]: this takes at least 6 samples and images, found n=5"),
    ],
)
def test_what_is_too_few_for_one_is_said_before_another_is_measured(
    gentrain: Callable[..., Ended], runs: dict[str, Path], typed: list[str], part: str
) -> None:
    before = set(runs["biggan"].rglob("*"))
    done = gentrain("eval", f"ckpt={runs['biggan']}", "metrics=[frechet,kid,prdc]", *typed)
    assert done.status == 2
    assert part in done.one_line()
    assert set(runs["biggan"].rglob("*")) == before
    assert "frechet" not in done.out


def test_what_the_ladder_does_to_images() -> None:
    x = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    x[:, :, 4, 4] = 255
    y = features.blurred(x, 1.0)
    assert y[0, 0, 4, 4] == pytest.approx(255 / (2 * 3.14159), abs=2), "the middle of a normal"
    assert float(y.sum()) == pytest.approx(float(x.sum()), rel=0.05)
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(features.blurred(flat, 1.0), flat), "edges repeat"
    grey = torch.full((40, 1, 8, 8), 8, dtype=torch.uint8)
    noise = features.noisy(grey, 0.1, 17, torch.Generator().manual_seed(0)).float()
    assert noise.std().item() == pytest.approx(1.6, rel=0.1)
    assert noise.max() <= 16


def test_the_ratio_of_reconstructions() -> None:
    class Half:
        """Goes half of the way from an image to grey."""

        spec = package.DataSpec((1, 2, 2), levels=3)

        def reconstructions(self, batch: package.Batch) -> dict[str, torch.Tensor]:
            return {"image": batch.x, "reconstruction": batch.x * 0 + 1}

    x = torch.tensor([0, 2], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 2, 2)
    batch = package.Batch(x)
    pixels = x.flatten(1).float() / 2
    args = (batch, pixels, torch.device("cpu"), 2)
    assert neighbour.reconstruction_ratio(Half(), *args) == pytest.approx(1)
    half: Any = Half()
    half.reconstructions = lambda batch: {"image": batch.x, "reconstruction": batch.x}
    assert neighbour.reconstruction_ratio(half, *args) == 0
    assert frechet(pixels, pixels) == pytest.approx(0, abs=1e-9)
