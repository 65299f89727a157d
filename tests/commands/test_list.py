"""`gentrain list`: every model, what each can do, the user's own."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class
from running import Ended, toy

from gentrain.cli import main
from gentrain.commands.abilities import needed
from gentrain.commands.list import lines
from gentrain.commands.measures import METRICS
from gentrain.commands.verbs import VERBS
from gentrain.config import config_dir

MODELS = sorted(file.stem for file in (config_dir() / "model").glob("[!_]*.yaml"))
DATASETS = sorted(file.stem for file in (config_dir() / "dataset").glob("[!_]*.yaml"))


def table(ended: Ended) -> dict[str, dict[str, str]]:
    """{model: {verb: mark}}, by the columns that a reader sees."""
    assert ended.status == 0, ended.err
    head, *rows = ended.out.partition("what each can do\n")[2].partition("\n\n")[0].splitlines()
    verbs = head.split()[1:]
    starts = [head.index(" " + verb) + 1 for verb in verbs]
    found = {}
    for row in rows:
        marks = [row[start:].split()[0] for start in starts]
        assert row.split()[1:] == marks, "each mark stands below its verb"
        found[row.split()[0]] = dict(zip(verbs, marks, strict=True))
    return found


@pytest.fixture(scope="module")
def listed() -> Ended:
    """`gentrain list` on a wide terminal."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        return Ended(main(["list"]), out.getvalue(), "")


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


def under(ended: Ended, heading: str) -> dict[str, str]:
    """{name: what it is} of the lines below the heading that begins so."""
    lines = iter(ended.out.splitlines())
    next(line for line in lines if line.startswith(heading))
    rows = [
        line.strip().partition("  ")
        for line in itertools.takewhile(lambda line: line.startswith("  "), lines)
    ]
    return {name: text.strip() for name, _, text in rows}


def test_models_stand_by_family_in_a_line_each(listed: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the first sentence of its file, cut at a word where the terminal is narrow."""
    done = listed
    families = ["Adversarial", "Autoencoders", "Autoregressive", "Energy-based", "Flows"]
    shown = {name: text for family in families for name, text in under(done, family).items()}
    assert sorted(shown) == MODELS
    assert "gan" in under(done, "Adversarial")
    assert "glow" in under(done, "Flows")
    for name, text in shown.items():
        assert text, name
        assert text[:30] in (config_dir() / "model" / f"{name}.yaml").read_text()
    assert under(done, "Flows")["glow"].endswith("coupling layers.")
    monkeypatch.setenv("COLUMNS", "60")
    narrow = lines(under(done, "Flows"))
    assert max(map(len, narrow)) <= 60
    assert narrow[0].endswith(" ...")


def test_the_columns_are_the_verbs_that_use_a_model(listed: Ended) -> None:
    (marks, *_) = table(listed).values()
    assert list(marks) == [verb for verb in VERBS if needed(verb)]
    assert {verb for verb in VERBS if not needed(verb)} <= {"list", "reproduce", "report", "doctor"}, (
        "a verb without a capability to ask for"
    )


def test_data_sets_and_the_next_command(gentrain: Callable[..., Ended], workplace: Path) -> None:
    done = gentrain("list")
    assert sorted(under(done, "data sets")) == DATASETS
    assert "1,797 handwritten digits" in under(done, "data sets")["digits"]
    assert set(under(done, "metrics")) == set(METRICS)
    assert under(done, "metrics")["probe"].startswith("how well a linear classifier")
    assert "1,797 digits" in under(done, "experiments")["vae_digits"]
    word, program, *arguments = done.out.splitlines()[-1].split()
    assert (word, program) == ("next", "gentrain")
    tried = gentrain(*arguments, "dry_run=true")
    assert tried.status == 0, tried.err


def test_ones_own_models_stand_in_the_table(
    gentrain: Callable[..., Ended], workplace: Path, listed: Ended
) -> None:
    arguments = [word for word in toy("toy_gan") if not word.startswith("model=")]
    done = gentrain("list", *arguments)
    assert set(under(done, "your own")) == {"toy_chain", "toy_flow", "toy_gan"}
    shown = table(done)
    assert sorted(shown) == sorted([*MODELS, "toy_chain", "toy_flow", "toy_gan"])
    assert shown["toy_gan"] | {"train": "yes", "sample": "yes", "interpolate": "yes"} == shown["toy_gan"]
    assert shown["toy_gan"]["arithmetic"] == shown["toy_gan"]["eval"] == shown["toy_flow"]["eval"] == "yes"
    assert shown["toy_flow"]["arithmetic"] == shown["toy_gan"]["reconstruct"] == "-"
    untrusted = gentrain("list", *[word for word in arguments if not word.startswith("trust")])
    assert untrusted.status == 0, untrusted.err
    rows = {line.split()[0]: line for line in untrusted.out.splitlines() if line}
    assert rows["vae"].split()[1:] == list(table(listed)["vae"].values())
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
