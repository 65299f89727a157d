"""`gentrain list`: every model, what each can do, the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class
from running import Ended, toy

from gentrain.commands.abilities import needed
from gentrain.commands.verbs import VERBS
from gentrain.config import config_dir

MODELS = sorted(file.stem for file in (config_dir() / "model").glob("[!_]*.yaml"))
DATASETS = sorted(file.stem for file in (config_dir() / "dataset").glob("[!_]*.yaml"))


def table(ended: Ended) -> dict[str, dict[str, str]]:
    """{model: {verb: mark}}, by the columns that a reader sees."""
    assert ended.status == 0, ended.err
    head, *rows = ended.out.partition("\n\n")[0].splitlines()
    verbs = head.split()[1:]
    starts = [head.index(" " + verb) + 1 for verb in verbs]
    found = {}
    for row in rows:
        marks = [row[start:].split()[0] for start in starts]
        assert row.split()[1:] == marks, "each mark stands below its verb"
        found[row.split()[0]] = dict(zip(verbs, marks, strict=True))
    return found


def test_every_model_and_what_its_class_can_do(gentrain: Callable[..., Ended], workplace: Path) -> None:
    shown = table(gentrain("list"))
    assert sorted(shown) == MODELS
    assert len(MODELS) >= 2
    for name, marks in shown.items():
        node = yaml.safe_load((config_dir() / "model" / f"{name}.yaml").read_text())
        cls = get_class(node["model"]["_target_"])
        for verb, mark in marks.items():
            assert mark == ("yes" if issubclass(cls, needed(verb)) else "-"), (name, verb)
    assert list(workplace.iterdir()) == []


def test_the_columns_are_the_verbs_that_use_a_model(gentrain: Callable[..., Ended]) -> None:
    (marks, *_) = table(gentrain("list")).values()
    assert list(marks) == [verb for verb in VERBS if needed(verb)]
    assert {verb for verb in VERBS if not needed(verb)} <= {"list", "reproduce"}, (
        "a verb without a capability to ask for"
    )


def test_data_sets_and_the_next_command(gentrain: Callable[..., Ended], workplace: Path) -> None:
    done = gentrain("list")
    (line,) = [line for line in done.out.splitlines() if line.startswith("data sets")]
    assert line.removeprefix("data sets").strip().split(", ") == DATASETS
    word, program, *arguments = done.out.splitlines()[-1].split()
    assert (word, program) == ("next", "gentrain")
    tried = gentrain(*arguments, "dry_run=true")
    assert tried.status == 0, tried.err


def test_ones_own_models_stand_in_the_table(gentrain: Callable[..., Ended], workplace: Path) -> None:
    arguments = [word for word in toy("toy_gan") if not word.startswith("model=")]
    shown = table(gentrain("list", *arguments))
    assert sorted(shown) == sorted([*MODELS, "toy_chain", "toy_flow", "toy_gan"])
    assert shown["toy_gan"] | {"train": "yes", "sample": "yes", "interpolate": "yes"} == shown["toy_gan"]
    assert shown["toy_gan"]["arithmetic"] == shown["toy_gan"]["eval"] == shown["toy_flow"]["eval"] == "yes"
    assert shown["toy_flow"]["arithmetic"] == shown["toy_gan"]["reconstruct"] == "-"
    untrusted = gentrain("list", *[word for word in arguments if not word.startswith("trust")])
    assert untrusted.status == 0, untrusted.err
    rows = {line.split()[0]: line for line in untrusted.out.splitlines() if line}
    assert rows["vae"] == {line.split()[0]: line for line in gentrain("list").out.splitlines() if line}["vae"]
    for name in ("toy_flow", "toy_gan"):
        assert "not shown" in rows[name]
        assert "trust=toys" in rows[name], "what to type"


def test_a_model_that_inherits_is_composed(gentrain: Callable[..., Ended], workplace: Path) -> None:
    Path("own/model").mkdir(parents=True)
    head = "# @package _global_\ndefaults: [vae_mlp, _self_]\n"
    Path("own/model/heir.yaml").write_text(head + "model: {latent_dim: 3}\n")
    for name, cls in (("bare", "VAE"), ("former", "MLPVAE")):  # as it was called before, too
        Path(f"own/model/{name}.yaml").write_text(f"_target_: gentrain.models.autoencoder.vae.{cls}\n")
    shown = table(gentrain("list", "--config-dir", "own"))
    assert shown["heir"] == shown["bare"] == shown["former"] == shown["vae_mlp"]


def test_the_next_command_is_not_of_ones_own_model(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """That would need its folder too, and may not take the data set."""
    Path("own/model").mkdir(parents=True)
    Path("own/model/aaa.yaml").write_text("# @package _global_\ndefaults: [vae_mlp]\n")
    done = gentrain("list", "--config-dir", "own")
    assert "aaa" in table(done)
    assert done.out.splitlines()[-1] == f"next    gentrain train model={MODELS[0]} dataset=digits"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("optim: {}", "model._target_"),
        ("model: {latent_dim: 3}", "model._target_"),
        ("model: [", "mine.yaml"),
        ("- a", "mine.yaml"),
        ("# @package _global_\nmodel: {_target_: os.system}", "os.system"),
        ("model: {_target_: gentrain.models.autoencoder.vae.VAE}", "@package _global_"),
    ],
)
def test_a_file_of_ones_own_that_is_no_model(
    gentrain: Callable[..., Ended], workplace: Path, text: str, part: str
) -> None:
    """Its row names the file and says why; the others are shown."""
    Path("own/model").mkdir(parents=True)
    Path("own/model/mine.yaml").write_text(text)
    ended = gentrain("list", "--config-dir", "own")
    assert ended.status == 0, ended.err
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line}
    assert set(MODELS) < set(rows)
    assert "not shown" in rows["mine"]
    assert part in rows["mine"]
    assert "mine.yaml" in rows["mine"]
