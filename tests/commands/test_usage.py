"""`gentrain VERB --help`: each key with its value, its comment and its range."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Ended, toy

from gentrain.commands.comments import about, of_fields, of_keys
from gentrain.commands.usage import known
from gentrain.composing import chosen
from gentrain.config import options
from gentrain.explain import WITH_GROUPS, leaves_of
from gentrain.schemas import SCHEMAS, SampleConfig


def keys(ended: Ended) -> dict[str, tuple[str, str]]:
    """{key: (value, what is said of it)}."""
    assert ended.status == 0, ended.err
    found: dict[str, tuple[str, str]] = {}
    key = ""
    for line in ended.out.partition("Settings, ")[2].splitlines():
        if row := re.match(r"  ([\w.]+)=(.*)", line):
            key = row[1]
            found[key] = (row[2], "")
        elif line.startswith("      "):
            found[key] = (found[key][0], f"{found[key][1]} {line.strip()}".strip())
    return found


def test_what_is_said_of_a_key(gentrain: Callable[..., Ended], workplace: Path) -> None:
    shown = keys(gentrain("sample", "--help", "n=7"))
    assert list(shown) == ["ckpt", "device", "threads", "seed", "ema", "trust", "label", "attributes",
                           "caption", "titles", "n", "seconds", "temperature", "truncation", "latents",
                           "mixture", "standing", "out"]  # fmt: skip
    assert shown["n"] == ("7", "Images or sounds to draw. [at least 1]")
    assert shown["temperature"][1].endswith("[above 0]")
    assert "null: one for each core" in shown["threads"][1]
    assert list(workplace.iterdir()) == []


def test_only_the_groups_that_a_verb_takes(gentrain: Callable[..., Ended]) -> None:
    assert "model=" in gentrain("train", "--help").out.partition("Groups")[2]
    for verb in ("sample", "eval", "list"):
        assert "Groups" not in gentrain(verb, "--help").out


def test_the_keys_of_what_is_chosen(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """Those of the model and the data set, with what their files say, and what those inherit."""
    shown = keys(gentrain("train", "--help", "model=beta_vae", "dataset=mnist"))
    assert "model.latent_dim" in shown
    assert shown["dataset.cache"][1].startswith("Folder of the decoded arrays")
    assert "60,000" in shown["dataset.validation"][1]
    assert "one of auto, fp32, bf16, fp16" in shown["precision"][1]
    assert not [key for key in shown if key.startswith(("names.", "made."))]
    other = keys(gentrain("train", "--help", *toy("toy_gan")[:3]))
    assert "model.n_critic" in other
    assert "model.latent_dim" in other
    assert "beta" not in other


def test_a_mistake_gets_one_line(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", "--help", "modle=vae")
    assert done.status == 2
    assert "did you mean model?" in done.one_line()


@pytest.mark.parametrize("verb", SCHEMAS)
def test_every_key_of_ours_is_explained(verb: str) -> None:
    comments, _ = known(verb, {}, [])
    config, _ = chosen(verb, [])
    groups = ("model.", "dataset.", "optim.", "schedule") if verb in WITH_GROUPS else ()
    ours = [key for key in leaves_of(config) if not key.startswith(groups)]
    assert not [key for key in ours if not comments.get(key)]


@pytest.mark.parametrize("group", ["model", "dataset"])
def test_every_key_of_a_file_is_explained(group: str) -> None:
    """What a file inherits is explained where it stands."""
    for name in options(group):
        config, choices = chosen("train", [f"{group}={name}"])
        comments, _ = known("train", choices, [])
        missing = [k for k in leaves_of(config[group], f"{group}.") if not comments.get(k)]
        assert not missing, (name, missing)


def test_where_a_comment_may_stand(workplace: Path) -> None:
    Path("a.yaml").write_text(
        "# @package _global_\n# Of the file (Kingma et al. 2014). More of it.\nmodel:\n  a: 1  # beside\n"
        "  # above,\n  # in two lines\n  b: '# no comment'\n  c: 2\n\n# of d\nd:\n  e: {f: 1}  # of e\n"
    )
    found = of_keys(Path("a.yaml"))
    assert found == {"model.a": "beside", "model.b": "above, in two lines", "d": "of d", "d.e": "of e"}
    Path("model").mkdir()
    Path("a.yaml").rename("model/a.yaml")
    assert about("model", "a", ["."]) == "Of the file (Kingma et al. 2014)."
    assert about("model", "nothing_of_that_name") == ""
    fields = of_fields(SampleConfig)
    assert fields["n"] == "Images or sounds to draw."
    assert fields["seed"] == "Seeds all noise.", "of what it derives from"


def test_help_of_a_command(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("help", "sample").out == gentrain("sample", "--help").out
    assert "Commands:" in gentrain("help").out
    assert "Commands:" in gentrain("help", "nothing").out
