"""Files that name classes, settings and weights as they were called before go on working."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import Ended

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source, with_former
from gentrain.data.source import Source
from gentrain.formerly import TARGETS, WEIGHTS, settings_of_now, target_of_now, weights_of_now
from gentrain.models.autoencoder.vae import VAE

PLACE = "gentrain.models.autoencoder.vae"
SHARED = {
    "latent_dim": 2,
    "activation": "silu",
    "likelihood": "auto",
    "mixtures": 2,
    "sample_pixels": False,
}
#: {target: (its settings of before, which of today's they became)}.
BEFORE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    f"{PLACE}.ConvVAE": (
        {**SHARED, "channels": [4, 6], "hidden": 8, "dropout": 0.1},
        {**SHARED, "network": "conv", "channels": [4, 6], "hidden": [8], "dropout": 0.1},
    ),
    f"{PLACE}.MLPVAE": (
        {**SHARED, "hidden": [8, 7]},
        {**SHARED, "network": "mlp", "channels": [], "hidden": [8, 7], "dropout": 0.0},
    ),
}
EACH = pytest.mark.parametrize("target", BEFORE)


def test_every_target_of_before_is_tried() -> None:
    assert set(BEFORE) == set(TARGETS)


@EACH
def test_a_target_and_its_settings_are_todays(target: str) -> None:
    before, now = BEFORE[target]
    given_ = {"_target_": target, **before}
    kept = dict(given_)
    found = settings_of_now(given_)
    assert found == {"_target_": f"{PLACE}.VAE", **now}
    assert target_of_now(target) == f"{PLACE}.VAE"
    assert given_ == kept, "what was given is left alone"
    assert settings_of_now(found) == found, "twice is once"
    assert list(settings_of_now(found)) == list(found)


@EACH
@pytest.mark.parametrize(
    "setting", [{"network": "conv"}, {"dropout": 0.5}, {"channels": [3]}, {"hidden": [5]}]
)
def test_settings_of_today_win(target: str, setting: dict[str, Any]) -> None:
    """A file that inherits from today's and names the class of before has some of both."""
    found = settings_of_now({"_target_": target, **BEFORE[target][0], **setting})
    assert setting.items() <= found.items()


def test_what_is_of_today_stays_as_it_is() -> None:
    for plain in (
        {"_target_": f"{PLACE}.VAE", "hidden": 8},
        {"_target_": "own.ConvVAE", "hidden": 8},
        {"_target_": None},
        {"_target_": 3},
        {"hidden": 8},
        {},
    ):
        assert settings_of_now(plain) == plain
        assert target_of_now(plain.get("_target_")) == plain.get("_target_")
    assert target_of_now(["no", "name"]) == ["no", "name"]


def test_settings_that_came_later_are_what_they_were_without() -> None:
    """Of every data set of images: `crop` came when they had been written without for a while."""
    for name in ("mnist", "digits", "cifar10", "celeba", "fashion_mnist"):
        node = compose_train([f"dataset={name}"]).dataset
        before = {key: value for key, value in node.items() if key != "crop"}
        assert with_former(before, Source, "dataset")["crop"] == 0
        assert with_former({**before, "crop": 7}, Source, "dataset")["crop"] == 7
        assert build_source(before).crop == 0


GLOW = ["model=glow", "model.scales=2", "model.depth=1", "model.hidden=8"]


def test_a_glow_takes_its_weights_of_before() -> None:
    target = "gentrain.models.flow.glow.Glow"
    model = package.build(GLOW, package.DataSpec((1, 8, 8), levels=17))
    now = model.state_dict()
    back = {new: old for old, new in WEIGHTS[target].items()}
    before = {}
    for name, weight in now.items():
        beginning = next(part for part in back if name.startswith(part))
        before[back[beginning] + name.removeprefix(beginning)] = weight
    assert {name.split(".")[0] for name in before} == {"scales", "priors"}
    found = weights_of_now(target, before)
    assert list(found) == list(now), "their names and their order"
    assert all(found[name] is weight for name, weight in zip(found, before.values(), strict=True))
    model.load_state_dict(found)
    assert list(weights_of_now(target, found)) == list(found), "twice is once"
    assert list(weights_of_now(f"{PLACE}.VAE", before)) == list(before), (
        "those of other models are left alone"
    )


@given(
    st.sampled_from([*WEIGHTS, f"{PLACE}.VAE", "None"]),
    st.lists(st.sampled_from(["scales", "priors", "transform", "x"]), min_size=1, max_size=4).map(".".join),
)
def test_names_of_weights_are_renewed_once(target: str, name: str) -> None:
    once = weights_of_now(target, {name: torch.zeros(1)})
    assert len(once) == 1
    assert list(weights_of_now(target, once)) == list(once)


@EACH
@pytest.mark.parametrize("inherits", [False, True])
def test_a_users_file_that_names_a_class_of_before_trains(
    gentrain: Callable[..., Ended], workplace: Path, target: str, inherits: bool
) -> None:
    """Written in full, or on top of the model's own file; the run is then sampled, evaluated and resumed."""
    before, now = BEFORE[target]
    shipped = "vae" if target.endswith("ConvVAE") else "vae_mlp"
    settings = "\n".join(f"  {key}: {value}" for key, value in before.items())
    defaults = f"defaults: [{shipped}, _self_]\n" if inherits else ""
    optim = "" if inherits else "optim:\n  main: {_target_: torch.optim.Adam, lr: 0.001}\n"
    Path("own/model").mkdir(parents=True)
    Path("own/model/mine.yaml").write_text(
        f"# @package _global_\n{defaults}model:\n  _target_: {target}\n{settings}\n{optim}"
    )
    short = ["dataset=digits", "train.steps=2", "train.sample_count=4", "train.batch_size=8"]
    trained = gentrain("train", "--config-dir", "own", "model=mine", *short, "run_dir=run")
    assert trained.status == 0, trained.err
    model = package.load("run")
    assert type(model) is VAE
    model.load_state_dict(VAE(model.spec, **now).state_dict())
    for command in (["sample", "ckpt=run", "n=4"], ["eval", "ckpt=run", "n=8"]):
        ended = gentrain(*command)
        assert ended.status == 0, ended.err
    resumed = gentrain("train", "resume=run", "train.steps=3")
    assert resumed.status == 0, resumed.err
