"""Every YAML file fits what it configures, says what each key is, and trains."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing_once import composed_once
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import OmegaConf
from running import Ended

from gentrain import page_schemas, schema_parts, schemas, train_schemas
from gentrain.api import compose_train
from gentrain.building import settings_of
from gentrain.config import config_dir, conform, options, path_keys, register_schema
from gentrain.contracts import GenerativeModel
from gentrain.data.source import Source
from gentrain.schemas import SCHEMAS, TrainConfig
from gentrain.train_schemas import TrainSection

CONFIGS = config_dir()
MODELS, DATASETS, EXPERIMENTS = options("model"), options("dataset"), options("experiment")
GROUPS = ("model", "dataset", "experiment")
GROUP_FILES = sorted(file for group in GROUPS for file in (CONFIGS / group).rglob("*.yaml"))


def test_there_is_something_to_look_at() -> None:
    assert {"vae", "vae_mlp", "pixelcnn", "gan", "glow"} <= set(MODELS)
    assert {"digits", "folder", "mnist", "fashion_mnist", "cifar10", "celeba"} <= set(DATASETS)
    assert "_common" not in DATASETS


# Keys and constructors


def fits(node: dict[str, Any], base: type, given: int) -> None:
    """Assert that `node` has the constructor's settings, all of them and no other."""
    cls = get_class(node["_target_"])
    assert issubclass(cls, base)
    parameters = settings_of(cls, given)
    assert set(node) - {"_target_"} == set(parameters)
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{cls.__name__}.{name}"
        assert parameter.default is inspect.Parameter.empty, f"{cls.__name__}.{name} has a second default"
        assert parameter.annotation is not inspect.Parameter.empty, f"{cls.__name__}.{name}"


@pytest.mark.parametrize("name", MODELS)
def test_the_keys_of_a_model_are_its_constructors(name: str) -> None:
    text = (CONFIGS / "model" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n#"), "then a line that says what the model is"
    own = yaml.safe_load(text)
    assert set(own) <= {"defaults", "model", "optim", "schedule", "train", "precision"}
    fits(OmegaConf.to_container(composed_once(f"model={name}").model), GenerativeModel, 1)  # type: ignore[arg-type]
    assert set(own.get("train", {})) <= {f.name for f in dataclasses.fields(TrainSection)}


@pytest.mark.parametrize("name", DATASETS)
def test_the_keys_of_a_data_set_are_its_constructors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (CONFIGS / "dataset" / f"{name}.yaml").read_text().startswith("# ")
    fits(OmegaConf.to_container(composed_once(f"dataset={name}").dataset), Source, 0)  # type: ignore[arg-type]
    assert get_class(composed_once(f"dataset={name}").dataset._target_).name == name


def test_an_option_is_what_its_file_says() -> None:
    """`model=x` changes nothing but what x.yaml holds and what it takes from other files by name."""
    for name in MODELS:
        config = composed_once(f"model={name}")
        own = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())
        for section in ("model", "optim", "train"):
            for key, value in own.get(section, {}).items():
                assert OmegaConf.to_container(config[section])[key] == value, f"{name}: {section}.{key}"  # type: ignore[call-overload,index]


# Comments


def bare_keys(text: str) -> list[str]:
    """Keys with neither a comment beside them nor one in the line above.

    What needs none: sections, `_target_`, and the list of other files.
    """
    lines = text.splitlines()
    bare = []
    for above, line in zip(["", *lines], lines, strict=False):
        match = re.fullmatch(r"\s*([\w.]+):(\s.*)?", line)
        if not match or match.group(1) in ("_target_", "defaults"):
            continue
        value = (match.group(2) or "").strip()
        documented = re.search(r"(^|\s)#\s*\w", value) or re.match(r"\s*#", above)
        if value and not documented:
            bare.append(line.strip())
    return bare


def test_the_search_for_bare_keys_finds_them() -> None:
    text = "# Of a.\na: 1\nb: 2\nmodel:\n  _target_: x.y\n  c: 3  # of c\n\n  d: '#4'\n  e: {}\n  # f\n  f: 5"
    assert bare_keys(text) == ["b: 2", "d: '#4'", "e: {}"]


@pytest.mark.parametrize("file", GROUP_FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_key_says_what_it_is(file: Path) -> None:
    assert not bare_keys(file.read_text())


#: Where our sections are written.
PARTS = (schema_parts, page_schemas, train_schemas, schemas)


def field_lines() -> Iterator[tuple[str, str, str]]:
    """(line, the line above, class) of every dataclass field in schemas.py and what it is made of."""
    lines = [line for part in PARTS for line in inspect.getsource(part).splitlines()]
    inside = ""
    for above, line in zip(["", *lines], lines, strict=False):
        if match := re.match(r"class (\w+)", line):
            inside = match.group(1)
        elif line and not line.startswith((" ", "#")):
            inside = inside if line.startswith(("@", ")")) else ""
        if inside and re.match(r"    \w+: ", line):
            yield line, above, inside


def test_every_setting_of_ours_says_what_it_is() -> None:
    found = list(field_lines())
    count = sum(
        len([f for f in dataclasses.fields(cls) if f.name in cls.__annotations__])
        for part in PARTS
        for cls in vars(part).values()
        if dataclasses.is_dataclass(cls) and cls.__module__ == part.__name__
    )
    assert len(found) == count > 40
    assert not [(cls, line) for line, above, cls in found if not re.match(r"    # \w", above)]


# Ranges


@pytest.mark.parametrize("verb", SCHEMAS)
def test_defaults_keep_their_own_ranges(verb: str) -> None:
    given = {"model": {}, "dataset": {}} if SCHEMAS[verb] is TrainConfig else {}
    conform(SCHEMAS[verb], OmegaConf.create(given))


def ranged(schema: type) -> Iterator[tuple[str, Any]]:
    """Dotted names of fields with a range."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[item.name]):
            yield from ((f"{item.name}.{name}", f) for name, f in ranged(typing.cast(type, hints[item.name])))
        elif set(item.metadata) - {"path", "names"}:
            yield item.name, item


@pytest.mark.parametrize("verb", SCHEMAS)
def test_every_range_is_kept(verb: str) -> None:
    """The value just outside is refused by name, the one just inside is not."""
    from gentrain.errors import UserError

    given = {"model": {}, "dataset": {}} if SCHEMAS[verb] is TrainConfig else {}
    for name, item in ranged(SCHEMAS[verb]):
        limits = item.metadata
        floats = "float" in str(item.type)
        tiny = 1e-6 if floats else 1
        trials: list[tuple[Any, bool]] = []
        if "at_least" in limits:
            trials += [(limits["at_least"], True), (limits["at_least"] - tiny, False)]
        if "above" in limits:
            trials += [(limits["above"] + tiny, True), (limits["above"], False)]
        if "at_most" in limits:
            trials += [(limits["at_most"], True), (limits["at_most"] + tiny, False)]
        if "below" in limits:
            trials += [(limits["below"] - tiny, True), (limits["below"], False)]
        if "one_of" in limits:
            trials += [(value, True) for value in limits["one_of"]] + [("nonsense", False)]
        if floats:
            trials += [(float("nan"), False), (float("inf"), False)]
        assert trials
        for value, good in trials:
            config = OmegaConf.create(given)
            OmegaConf.update(config, name, value, force_add=True)
            if good:
                conform(SCHEMAS[verb], config)
            else:
                with pytest.raises(UserError, match=re.escape(name)):
                    conform(SCHEMAS[verb], config)


def test_which_values_are_paths() -> None:
    assert path_keys("train") == {
        "run_dir",
        "resume",
        "init",
        "dataset.root",
        "dataset.background",
        "dataset.cache",
    }
    assert path_keys("sample") >= {"ckpt", "out"}
    assert path_keys("encode") >= {"ckpt", "out", "images", "dataset.root"}


# Composition


@pytest.mark.parametrize("verb", SCHEMAS)
def test_the_primary_config_of_every_verb(verb: str) -> None:
    register_schema(verb)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(verb, return_hydra_config=True)
    assert config.hydra.output_subdir is None, "Hydra makes no folder"
    assert config.hydra.job.chdir is False
    assert str(config.hydra.run.dir) == "."
    assert {f.name for f in dataclasses.fields(SCHEMAS[verb])} == set(config) - {"hydra"}
    assert set(SCHEMAS) == {f.stem for f in CONFIGS.glob("[!_]*.yaml")}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_ready_for_digits(gentrain: Callable[..., Ended], workplace: Path, model: str) -> None:
    """Built, initialised, its optimisers made; no step taken and nothing written."""
    done = gentrain("train", f"model={model}", "dataset=digits", "dry_run=true")
    if done.status and "dataset.source=" in done.one_line():  # some go from one image to another
        done = gentrain("train", f"model={model}", "dataset=digits", "dataset.source=invert", "dry_run=true")
    if done.status and "dataset.stacked=true" in done.one_line():  # some want captions
        done = gentrain("train", f"model={model}", "dataset=digits", "dataset.stacked=true", "dry_run=true")
    if done.status:  # some models want pixels of two levels, and say so
        assert "dataset.binarize=dynamic" in done.one_line()
        arguments = [f"model={model}", "dataset=digits", "dataset.binarize=dynamic"]
        done = gentrain("train", *arguments, "dry_run=true")
    assert done.status == 0, done.err
    assert "parameters" in done.out
    assert list(workplace.iterdir()) == []


#: Every model with every data set; of them one with each model, and each data set among these, are not slow.
TOGETHER = [
    pytest.param(model, dataset, marks=[] if (i + j) % len(DATASETS) == 0 else pytest.mark.slow)
    for i, model in enumerate(MODELS)
    for j, dataset in enumerate(DATASETS)
]


@pytest.mark.parametrize(("model", "dataset"), TOGETHER)
def test_every_model_composes_with_every_data_set(model: str, dataset: str) -> None:
    config = compose_train([f"model={model}", f"dataset={dataset}"])
    assert config.model._target_
    assert config.dataset._target_
    assert config.optim


def test_every_experiment_composes() -> None:
    for name in EXPERIMENTS:
        config = composed_once(f"experiment={name}")
        assert config.model._target_
        assert config.dataset._target_


@pytest.mark.parametrize("name", ["vae_mnist_paper", "iwae_mnist_paper"])
def test_a_papers_own_schedule(name: str) -> None:
    """3^i epochs of 60,000 images at learning rate 1e-3 * 10^(-i/7), i = 0..7."""
    config = composed_once(f"experiment={name}")
    assert config.schedule.main._target_ == "torch.optim.lr_scheduler.MultiStepLR"
    steps = [3**i * 60000 // config.train.batch_size for i in range(8)]
    ends = [sum(steps[: i + 1]) for i in range(8)]
    assert [*config.schedule.main.milestones, config.train.steps] == ends
    assert config.optim.main.lr == 1e-3
    assert config.schedule.main.gamma == pytest.approx(10 ** (-1 / 7), rel=1e-12)
