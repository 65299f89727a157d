"""What every model withstands: half precision, foreign and damaged checkpoints, typing mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from metrics_of import NEEDS, fit_model
from running import MODELS, OFTEN, Ended

import gentrain as package
from gentrain.cli import main
from gentrain.commands.measures import METRICS
from gentrain.config import config_dir
from gentrain.contracts import HasLikelihood, Invertible, Reconstructs, Samples, Translates
from gentrain.training import checkpoint

NAMES = list(MODELS)
#: Tests of one model come one after the other, so that few of them are trained by more than one worker.
every_model = pytest.mark.parametrize("name", NAMES, scope="module")


def option(name: str, key: str) -> str | None:
    """The value of `key=` among a model's arguments."""
    return next((a.partition("=")[2] for a in MODELS[name] if a.startswith(f"{key}=")), None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run folder of a model trained for a few steps; once."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "run"
            # A picture at the end alone.
            arguments = [*MODELS[name], *OFTEN, "train.steps=12", "train.eval_every=12", f"run_dir={folder}"]
            assert main(["train", *arguments]) == 0
            made[name] = folder
        return made[name]

    return run


def test_every_metric_is_in_the_list_of_what_they_need() -> None:
    assert list(NEEDS) == list(METRICS)


@every_model
def test_draws_and_is_measured(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    run = trained(name)
    model = package.load(run)
    drawn = gentrain("sample", f"ckpt={run}", "n=5", "out=five.png")
    if isinstance(model, Samples):
        assert drawn.status == 0, drawn.err
    else:
        assert drawn.status == 2
        assert f"sample: {option(name, 'model')} cannot do this" in drawn.one_line()
    assert Path("five.png").is_file() == isinstance(model, Samples)
    measured = gentrain("eval", f"ckpt={run}", "limit=20", "samples=2")
    if isinstance(model, HasLikelihood):
        assert measured.status == 0, measured.err
        assert "bits/dim" in measured.out
    else:
        assert measured.status == 2
        assert "has no likelihood" in measured.one_line()
        assert measured.one_line().endswith(fit_model(model))


@every_model
def test_shows_reconstructions(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    """While it trains, where they are no mere copies, and afterwards."""
    run = trained(name)
    model = package.load(run)
    expected = isinstance(model, Reconstructs)
    drawn = {f.name for f in (run / "reconstructions").glob("*")}
    assert drawn == ({"step_00000012.png"} if expected and not isinstance(model, Invertible) else set())
    ended = gentrain("reconstruct", f"ckpt={run}", "out=x.png")
    assert ended.status == (0 if expected else 2), ended.err
    if not expected:
        assert f"reconstruct: {option(name, 'model')} cannot do this" in ended.one_line()
    assert Path("x.png").is_file() == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@every_model
def test_half_precision_keeps_the_loss_finite(
    gentrain: Callable[..., Ended], name: str, precision: str
) -> None:
    arguments = [a for a in MODELS[name] if not a.startswith("precision=")]
    quiet = [
        "train.eval_every=100",
        "train.sample_every=100",
        "train.checkpoint_every=100",
        "train.sample_count=1",
    ]
    ended = gentrain(
        "train", *arguments, *OFTEN, *quiet, f"precision={precision}", "train.steps=6", "run_dir=run"
    )
    assert ended.status == 0, ended.err  # a loss that is not finite stops the run with status 1


@every_model
def test_a_damaged_checkpoint_is_refused(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    content = bytearray((trained(name) / "checkpoints" / "last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    Path("flipped.pt").write_bytes(content)
    ended = gentrain("sample", "ckpt=flipped.pt", "out=x.png")
    assert ended.status == 2
    assert "corrupt" in ended.one_line()
    assert not Path("x.png").exists()


@every_model
def test_another_models_weights_are_refused(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    other = next(n for n in NAMES if option(n, "model") != option(name, "model"))
    ended = gentrain("train", *MODELS[name], *OFTEN, f"init={trained(other)}", "run_dir=new")
    assert ended.status == 2
    assert f"is a {option(other, 'model')}, not a {option(name, 'model')}" in ended.one_line()
    assert not Path("new").exists()


@every_model
def test_a_settings_typo_gets_the_nearest_name(gentrain: Callable[..., Ended], name: str) -> None:
    model = option(name, "model")
    settings = yaml.safe_load((config_dir() / "model" / f"{model}.yaml").read_text())["model"]
    right = next(key for key in settings if not key.startswith("_"))
    wrong = right + "x"
    ended = gentrain("train", f"model={model}", "dataset=digits", f"+model.{wrong}=1")
    assert ended.status == 2
    assert f"model.{wrong}" in ended.one_line()
    assert f"model.{right}" in ended.one_line()
    assert not Path("outputs").exists()


@every_model
def test_what_cannot_be_drawn_is_refused(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    """A label where there is none, and no temperature; its range is that of all, and held in test_configs."""
    model = package.load(trained(name))
    takes = None if model.condition is None else model.condition.name
    for bad in ("temperature=nan", "label=3"):
        ended = gentrain("sample", f"ckpt={trained(name)}", bad, "n=1", f"out={bad}.png")
        if bad == "label=3" and isinstance(model, Samples) and takes == "label":
            assert ended.status == 0, ended.err
            continue
        assert ended.status == 2
        assert not Path(f"{bad}.png").exists()
        if isinstance(model, Samples):
            assert bad.partition("=")[0] in ended.one_line()


@pytest.mark.parametrize("bad", ["temperature=0", "temperature=-1"])
def test_a_temperature_below_its_range(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], bad: str
) -> None:
    ended = gentrain("sample", f"ckpt={trained('vae')}", bad, "out=x.png")
    assert ended.status == 2
    assert "temperature" in ended.one_line()
    assert not Path("x.png").exists()


@every_model
def test_other_data_than_in_training_are_refused(
    gentrain: Callable[..., Ended], trained: Callable[[str], Path], name: str
) -> None:
    """A checkpoint that says of itself that its images are larger than the data's."""
    state = checkpoint.load(trained(name) / "checkpoints" / "last.pt")
    levels = state["spec"]["levels"]
    config = state["config"]
    assert "binarize: " in config
    # The same weights fit both: only the data's levels differ.
    binarised = option(name, "dataset.binarize")
    other = config.replace(f"binarize: {binarised}", "binarize: none") if levels == 2 else None
    other = other or config.replace("binarize: none", "binarize: fixed")
    model = package.load(trained(name))
    if isinstance(
        model, Translates
    ):  # partners are not made of binary images, and its weights fit any levels
        levels, other = 5, config
    spec = {**state["spec"], "levels": levels}
    checkpoint.save({**state, "config": other, "spec": spec}, Path("other.pt"))
    metric = "captions" if model.spec.classes is None else "classifier"
    draws = ("eval", "limit=4", f"metrics=[{metric}]", "n=4")
    shows = ("translate",) if isinstance(model, Translates) else ("reconstruct",)
    verb = draws if isinstance(model, Samples) else shows
    ended = gentrain(*verb, "ckpt=other.pt")
    assert ended.status == 2
    line = ended.one_line()
    assert f"trained on {list(model.spec.shape)} with {levels}; set dataset.root" in line
