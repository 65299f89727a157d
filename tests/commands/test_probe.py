"""`gentrain eval metrics=[probe]`: a linear classifier of the latents, and one of the pixels."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from metrics_of import UNLABELLED_VAE, fit
from PIL import Image
from running import MODELS, Ended, run_process, toy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.commands.measures import probe as measuring
from gentrain.contracts import HasLikelihood, ImagesToLatents, Reconstructs, Samples
from gentrain.data.source import Data, Split
from gentrain.metrics import probe
from gentrain.training import checkpoint

KINDS = ("latents", "pixels")


def read(done: Ended) -> dict[str, Any]:
    """What was printed, held against what was written."""
    assert done.status == 0, done.err
    (file,) = re.findall(r"^wrote +(.+?)(?:, unchanged)?$", done.out, re.MULTILINE)
    written = json.loads(Path(file).read_text(), parse_constant=pytest.fail)
    line = r"(\S+)% \+- (\S+)% of ([\d,]+) (\w+) images right, by a linear classifier of the ([\d,]+) "
    pattern = (
        rf"probe   {line}latents\n        {line}pixels\n        both fitted to the ([\d,]+) training images"
    )
    (found,) = re.findall(pattern, done.out)
    for kind, texts in zip(KINDS, (found[:5], found[5:10]), strict=True):
        assert float(texts[0]) == pytest.approx(100 * written[f"{kind}_accuracy"], abs=0.0051)
        assert float(texts[1]) == pytest.approx(100 * written[f"{kind}_accuracy_stderr"], abs=0.0051)
        assert texts[2:] == (f"{written['images']:,}", written["split"], f"{written[kind]:,}")
    assert found[10] == f"{written['train_images']:,}"
    return written


def probed(gentrain: Callable[..., Ended], *typed: str) -> dict[str, Any]:
    return read(gentrain("eval", "metrics=[probe]", *typed))


def digits() -> Data:
    return build_source(compose_train([]).dataset).load()


def features(model: Any, split: Split) -> dict[str, np.ndarray]:
    x = torch.from_numpy(np.array(split.images))
    with torch.no_grad():
        return {"latents": model.images_to_latents(x).numpy(), "pixels": x.flatten(1).float().numpy()}


def predictions(run: Path, data: Data, split: Split, kind: str) -> np.ndarray:
    """Computed with scikit-learn alone: labels of a split, int64 [N]."""
    model = package.load(run)
    direct = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    direct.fit(features(model, data.train)[kind], data.train.labels)
    return direct.predict(features(model, split)[kind])


def test_the_figures_are_those_of_scikit_learn(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    written = probed(gentrain, "batch_size=64", "seed=5")
    data = digits()
    assert written["seed"] == 5
    assert (written["split"], written["images"], written["train_images"]) == ("test", 297, 1350)
    assert written["classes"] == 10
    for kind, dims in zip(KINDS, (4, 64), strict=True):
        right = predictions(trained.conv, data, data.test, kind) == data.test.labels
        p = written[f"{kind}_accuracy"]
        assert p == pytest.approx(right.mean(), abs=1.5 / 297)  # latents differ in the last bit
        assert written[f"{kind}_accuracy_stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 297))
        assert written[kind] == dims
        assert written[f"{kind}_converged"]
    assert written["pixels_accuracy"] > 0.95
    assert 0.2 < written["latents_accuracy"] < 0.9
    assert (trained.conv / "eval_probe_test.json").is_file()
    assert not (trained.conv / "eval_test.json").exists()
    assert probed(gentrain, "batch_size=64", "seed=5") == written


def test_the_test_images_and_labels_do_not_reach_the_fit(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other test labels, and test images of another brightness: predictions of the same classifier."""
    data = digits()
    plain = probed(gentrain)
    other = np.random.default_rng(0).permutation(np.array(data.test.labels))
    dark = np.array(data.test.images) // 3
    changed = dataclasses.replace(data, test=Split({"x": dark, "label": other}))
    monkeypatch.setattr(measuring, "open_data", lambda *_: changed)
    written = probed(gentrain)
    for kind in KINDS:
        expected = (predictions(trained.conv, data, changed.test, kind) == other).mean()
        assert written[f"{kind}_accuracy"] == pytest.approx(expected, abs=1.5 / 297)
        assert written[f"{kind}_iterations"] == plain[f"{kind}_iterations"]
    assert written["pixels_accuracy"] < 0.3 < plain["pixels_accuracy"]


@pytest.mark.parametrize(("split", "count"), [("validation", 150), ("train", 1350)])
def test_the_other_splits(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, split: str, count: int
) -> None:
    written = probed(gentrain, f"split={split}")
    assert (written["images"], written["train_images"]) == (count, 1350)
    data = digits()
    part = getattr(data, split)
    right = predictions(trained.conv, data, part, "pixels") == part.labels
    assert written["pixels_accuracy"] == pytest.approx(right.mean(), abs=1.5 / count)
    assert (trained.conv / f"eval_probe_{split}.json").is_file()


def test_a_limit_is_of_what_is_measured_alone(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    whole = probed(gentrain)
    kept = (trained.conv / "eval_probe_test.json").read_text()
    written = probed(gentrain, "limit=50")
    assert (written["images"], written["train_images"]) == (50, 1350)
    assert written["pixels_iterations"] == whole["pixels_iterations"], "the same fit"
    data = digits()
    right = (predictions(trained.conv, data, data.test, "pixels") == data.test.labels)[:50]
    assert written["pixels_accuracy"] == pytest.approx(right.mean(), abs=1.5 / 50)
    assert (trained.conv / "eval_probe_test.json").read_text() == kept
    assert (trained.conv / "eval_probe_test_first_50.json").is_file()
    assert probed(gentrain, "limit=5000")["images"] == 297
    assert probed(gentrain, "limit=1")["images"] == 1


def test_a_flow_shows_its_latents(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *MODELS["glow"], "train.steps=2", "train.batch_size=8").status == 0
    written = probed(gentrain)
    assert written["latents"] == written["pixels"] == 64
    assert written["latents_accuracy"] > 0.8, "all of the image is in them"


def test_binarised_images_are_those_of_the_seed(gentrain: Callable[..., Ended], workplace: Path) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "dataset.binarize=dynamic"]
    assert gentrain("train", *settings).status == 0
    first, again, other = (probed(gentrain, f"seed={seed}") for seed in (0, 0, 1))
    assert first == again
    assert first["pixels_accuracy"] != other["pixels_accuracy"]


def test_a_fit_that_did_not_converge(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "MOST_ITERATIONS", 10)
    done = gentrain("eval", "metrics=[probe]")
    written = read(done)
    assert (written["pixels_iterations"], written["pixels_converged"]) == (10, False)
    assert "note    the fit to the pixels stopped after 10 iterations, unconverged" in done.out
    assert not done.err.strip()


# What it refuses


def refused(gentrain: Callable[..., Ended], *parts: str, status: int = 2) -> None:
    before = sorted(Path().rglob("*"))
    ended = gentrain("eval", "metrics=[probe]", "trust=[toys]")
    assert ended.status == status, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            MODELS["gan"],
            [
                "gan has no latents of images alone (it maps latents to images",
                fit(Samples),
            ],
        ),
        (MODELS["pixelcnn"], ["pixelcnn has no latents", "(it has no latents, each pixel"]),
        (
            MODELS["cvae"],
            [
                "cvae has no latents of images alone (its encoder is given the label, which a classifier",
                fit(HasLikelihood, Reconstructs, Samples, given="label"),
            ],
        ),
        (
            toy("toy_gan"),
            [f"toy_gan has no latents of images alone{fit(Samples)}"],
        ),
    ],
    ids=["gan", "pixelcnn", "cvae", "toy_gan"],
)
def test_models_without_an_encoder_of_images_alone(
    gentrain: Callable[..., Ended], workplace: Path, arguments: list[str], parts: list[str]
) -> None:
    assert gentrain("train", *arguments, "train.steps=1", "train.batch_size=8").status == 0
    refused(gentrain, "metrics=[probe]: ", *parts)


FOLDER = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8", "dataset=folder"]


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("", f"vae_mlp was trained on data without labels{UNLABELLED_VAE}"),
        ("one", "of folder have one label, a classifier needs at least two"),
    ],
)
def test_data_without_labels_and_with_a_single_one(
    gentrain: Callable[..., Ended], workplace: Path, inside: str, said: str
) -> None:
    draw = np.random.default_rng(0)
    folder = Path("pictures", inside)
    folder.mkdir(parents=True)
    for i in range(30):
        Image.fromarray(draw.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / f"{i:02}.png")
    done = gentrain("train", *FOLDER, "dataset.root=pictures")
    assert done.status == 0, done.err
    refused(gentrain, said)


def test_weights_that_went_bad(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    state = checkpoint.load(trained.conv / "checkpoints" / "last.pt")
    for weight in (state["ema"] or state["model"]).values():
        weight.fill_(float("nan"))
    checkpoint.save(state, trained.conv / "checkpoints" / "last.pt")
    refused(gentrain, "latents of 1350 of 1350 images are not finite", status=1)


def test_a_model_that_can_do_nothing_else_is_told_of_it(
    gentrain: Callable[..., Ended], workplace: Path
) -> None:
    assert gentrain("train", *MODELS["ae"], "train.steps=2").status == 0
    ended = gentrain("eval")
    assert ended.status == 2
    assert ended.one_line().endswith(fit(Reconstructs, ImagesToLatents))
    assert probed(gentrain)["images"] == 297


@pytest.mark.slow
def test_from_a_shell(workplace: Path) -> None:
    settings = ["model=vae", "model.channels=[8]", "train.steps=200", "train.sample_count=4", "run_dir=run"]
    trained = run_process("train", *settings, cwd=workplace)
    assert trained.status == 0, trained.err
    done = run_process("eval", "metrics=[probe,likelihood]", "samples=1", "ckpt=run", cwd=workplace)
    assert done.status == 0, done.err
    assert "nll " in done.out
    alone = run_process("eval", "metrics=[probe]", "ckpt=run", cwd=workplace)
    assert not alone.err.strip()
    written = read(alone)
    assert written["latents_accuracy"] > 0.6
    said = re.findall("^probe.*", done.out, re.MULTILINE)
    assert said
    assert said == re.findall("^probe.*", alone.out, re.MULTILINE)
