"""The table of reproductions is what results/ holds; the weights there are those of the figures."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from composing_once import composed_once
from running import SUPPORT, TESTS, Ended, quietly_in, toy

from gentrain import exported
from gentrain.api import compose_train, load_checkpoint
from gentrain.cli import main
from gentrain.commands.reproduce import check_targets
from gentrain.config import options

ROOT = TESTS.parent
KEPT = sorted((ROOT / "results").glob("*/result.json"))
#: Folders of results that hold weights.
FOLDERS = sorted(file.parent for file in (ROOT / "results").glob("*/model.safetensors"))


@pytest.fixture(scope="module")
def accept() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accept", ROOT / "scripts" / "accept.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.recipe = lambda name: composed_once(f"experiment={name}")  # which other tests compose too
    return module


def a_result(**changed: Any) -> dict[str, Any]:
    """One of vae_mnist."""
    metric = "likelihood.nats"
    target = composed_once("experiment=vae_mnist").targets[0]
    plain = {
        "experiment": "vae_mnist",
        "published": {metric: target.published},
        "wanted": {metric: "at most 86.76"},
        "obtained": {metric: 87.0123},
        "stderr": {metric: 0.0812},
        "tolerance": {metric: target.tolerance},
        "verdict": {metric: "reproduced"},
        "estimator": {metric: "IWAE-5000, test, 10,000 images"},
        "source": {metric: target.source},
        "minutes": 61.5,
        "steps": 10,
        "date": "2026-01-02",
        "hardware": "a processor, 2 cores, 1 thread",
        "versions": {},
        "commit": "0" * 40,
        "command": "gentrain reproduce experiment=vae_mnist",
        "changed": [],
    }
    return plain | changed


def test_the_table_agrees_with_results(accept: ModuleType) -> None:
    text = accept.page().read_text()
    assert accept.renewed(text) == text, "run: make accept"
    assert "not yet run" in accept.table() or len(KEPT) == len(accept.rows())


def test_every_experiment_with_targets_has_a_row(accept: ModuleType) -> None:
    named = {row[0].strip("`") for row in accept.rows()}
    assert named == {name for name in options("experiment") if accept.recipe(name).targets}
    assert {"vae_mnist", "iwae_mnist", "vae_digits", "ae_digits", "dae_digits", "vae_cifar10"} <= named


@pytest.mark.parametrize("file", KEPT, ids=lambda f: f.parent.name)
def test_what_is_kept_is_sound(accept: ModuleType, file: Path) -> None:
    result = json.loads(file.read_text())
    assert result["experiment"] == file.parent.name
    assert accept.problem(result) is None
    about = result.get("weights")
    assert bool(about and about["kept"]) == (file.parent in FOLDERS)
    if about and not about["kept"]:
        assert len(about["sha256"]) == 64
        assert about["bytes"] > accept.MOST
        assert result["command"].startswith("gentrain reproduce ")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_kept_weights_are_those_of_the_figures(accept: ModuleType, folder: Path) -> None:
    result = json.loads((folder / exported.RESULT).read_text())
    content = (folder / exported.WEIGHTS).read_bytes()
    assert hashlib.sha256(content).hexdigest() == result["weights"]["sha256"]
    assert len(content) == result["weights"]["bytes"] <= accept.MOST
    loaded = load_checkpoint(folder)  # holds the hash in config.json against the file
    assert loaded.step == result["steps"]
    assert result["checkpoint"] == f"step_{result['steps']:08d}.pt"
    assert loaded.config.names.experiment == folder.name
    card = (folder / exported.CARD).read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] != "unknown"
    assert header["datasets"] == [loaded.config.names.dataset]
    for metric, obtained in result["obtained"].items():
        assert metric in card
        assert f"{obtained:.6g}" in card
    assert f"ckpt=results/{folder.name}" in card
    for name in (exported.CONFIG, exported.CARD):
        text = (folder / name).read_text()
        assert not re.search(r"/(home|root|work|tmp|Users)/", text), "no place of the machine"


def test_results_stay_small() -> None:
    files = [file for file in (ROOT / "results").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 100 * 10**6


@pytest.mark.parametrize("name", options("experiment"))
def test_targets_can_be_measured(accept: ModuleType, name: str) -> None:
    config = accept.recipe(name)
    if config.targets:
        check_targets(config, name)


def test_a_result_becomes_a_row(accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result()))
    assert accept.accept(file) is None
    (row,) = [row for row in accept.rows() if row[0] == "`vae_mnist`"]
    assert row[2:7] == [
        "86.76",
        "87.012 +- 0.081 (IWAE-5000, test, 10,000 images)",
        "0.4",
        "reproduced",
        "61.5",
    ]
    file.write_text(json.dumps(a_result(changed=["train.steps=3"])))
    assert accept.accept(file) is None
    (row,) = [row for row in accept.rows() if row[0] == "`vae_mnist`"]
    assert row[3].endswith("with `train.steps=3`")


def test_a_target_that_came_after_a_result_is_not_yet_run(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result()))
    assert accept.accept(file) is None
    recipe = compose_train(["experiment=vae_mnist"])
    recipe.targets.append(recipe.targets[0].copy())
    recipe.targets[1].metric = "likelihood.bits_per_dim"
    recipes = {"vae_mnist": recipe}
    known = accept.recipe
    monkeypatch.setattr(accept, "recipe", lambda name: recipes.get(name) or known(name))
    first, second = [row for row in accept.rows() if row[0] == "`vae_mnist`"]
    assert first[3].startswith("87.012")
    assert second[1:4] == ["bits per dim", "86.76", "not yet run"]


def test_a_result_of_several_seeds(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them stand in its row; one seed, others, or another than the one in the middle is refused."""
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    recipe = compose_train(["experiment=vae_mnist", "seeds=[0,1,2]"])
    monkeypatch.setattr(accept, "recipe", lambda name: recipe)
    metric = "likelihood.nats"
    seeds = {"0": {metric: 87.5}, "1": {metric: 86.1}, "2": {metric: 87.0123}}
    file = tmp_path / "result.json"

    def accepted(**changed: Any) -> str | None:
        file.write_text(json.dumps(a_result(**changed)))
        return accept.accept(file)

    assert "names the seeds none, the experiment's are 0, 1, 2" in str(accepted())
    assert "names the seeds 0, 1, the" in str(accepted(seeds={"0": seeds["0"], "1": seeds["1"]}))
    wrong = {**seeds, "2": {metric: 86.0}}
    assert accepted(seeds=wrong, run="seed_2") == "its figures are not those of the seed in the middle"
    assert accepted(seeds=seeds, run="seed_2") is None
    (row,) = [row for row in accept.rows() if row[0] == "`vae_mnist`" and "seeds" in row[3]]
    assert row[3].endswith("images); 87.5, 86.1, 87.01 of seeds 0, 1, 2")


def test_room_is_what_others_leave(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path)
    monkeypatch.setattr(accept, "ROOM", 100)
    for name, size in (("vae_mnist", 30), ("glow_mnist", 45)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    assert accept.room("nade_mnist") == 25
    assert accept.room("glow_mnist") == 70


def test_a_cell_stays_a_cell(accept: ModuleType) -> None:
    assert accept.plain("x|y\n| <b>z") == "x\\|y \\| &lt;b&gt;z"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commit": "0" * 40 + "-dirty"}, "differed from its commit"),
        ({"tolerance": {"likelihood.nats": 9.0}}, "its target has changed"),
        ({"obtained": {}}, "the targets are"),
        ({"obtained": {"likelihood.nats": float("nan")}}, "expected a finite number"),
        ({"obtained": {"likelihood.nats": "<script>"}}, "expected a finite number"),
        ({"verdict": {"likelihood.nats": "better"}}, "is not 'better'"),
        ({"stderr": {"likelihood.nats": "x"}}, "standard error"),
        ({"minutes": "many"}, "minutes: expected a number"),
        ({"commit": None}, "names no commit"),
        ({"stderr": None}, "is no result"),
        ({"experiment": "nothing"}, "no experiment"),
    ],
)
def test_what_is_not_kept(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result(**change)))
    assert reason in accept.accept(file)
    file.write_text("{}")
    assert "lacks" in accept.accept(file)
    file.write_text("<html>")
    assert "cannot be read" in accept.accept(file)
    assert not (tmp_path / "results").exists()


# With weights


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of a toy, in another folder's name."""
    place = tmp_path_factory.mktemp("reproduced")
    with quietly_in(place):
        few = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.ema=0.5", "run_dir=run"]
        assert main(["train", *toy("toy_flow"), *few]) == 0
    return place / "run"


@pytest.fixture
def reproduced(
    accept: ModuleType, run_once: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str | None]:
    """Accepts what vae_digits would have reached, were it the toy that was trained."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setattr(accept, "RESULTS", workplace / "results")
    conform = accept.conform
    monkeypatch.setattr(
        accept, "conform", lambda schema, plain: conform(schema, {**plain, "trust": ["toys"], "n": 1})
    )
    shutil.copytree(run_once, "run")
    target = composed_once("experiment=vae_digits").targets[0]
    metric = "likelihood.nats"

    def accepted(**changed: Any) -> str | None:
        result = a_result(
            experiment="vae_digits",
            published={metric: target.published},
            obtained={metric: 80.0},
            tolerance={metric: target.tolerance},
            source={metric: target.source},
            verdict={metric: "reached"},
            steps=3,
        )
        Path("run/result.json").write_text(json.dumps(result | changed))
        return accept.accept(Path("run/result.json"))

    return accepted


def test_weights_are_kept_beside_the_figure(
    accept: ModuleType, reproduced: Callable[..., str | None], gentrain: Callable[..., Ended]
) -> None:
    assert reproduced() is None
    folder = Path("results/vae_digits")
    assert {f.name for f in folder.iterdir()} == {
        *("model.safetensors", "config.json", "README.md", "samples.png", "result.json"),
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["checkpoint"] == "step_00000003.pt"
    about = result["weights"]
    assert about["kept"] is True
    assert about["dtype"] == "float32"
    assert about["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    state = torch.load("run/checkpoints/step_00000003.pt", weights_only=True)
    kept = load_checkpoint(folder, trust=["toys"])
    assert torch.equal(kept.model.shift, state["ema"]["shift"])
    card = (folder / "README.md").read_text()
    assert "| likelihood.nats | 80 |" in card
    assert "ckpt=results/vae_digits" in card
    (row,) = [row for row in accept.rows() if row[0] == "`vae_digits`"]
    assert row[-1] == "`results/vae_digits`, 0.0 MB"
    assert len(row) == len(accept.HEAD)
    done = gentrain("eval", "ckpt=results/vae_digits", "trust=toys", "limit=20")
    assert done.status == 0, done.err
    assert reproduced(minutes=3) is None, "it takes the place of what was there"
    assert json.loads((folder / "result.json").read_text())["minutes"] == 3


def test_large_weights_are_kept_in_bf16_with_their_own_figure(
    accept: ModuleType, reproduced: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduced() is None
    size = Path("results/vae_digits/model.safetensors").stat().st_size
    monkeypatch.setattr(accept, "MOST", size - 1)
    measured: list[Path] = []
    entry = {
        "published": None,
        "wanted": "at most 80.5",
        "obtained": 80.125,
        "stderr": 0.5,
        "tolerance": 1.0,
        "verdict": "reached",
        "estimator": "IWAE-100, test, 297 images",
        "source": "own recipe",
    }

    def found(config: Any, name: str, place: Path, beside: Path) -> Any:
        assert beside == Path("run/beside")
        weights = load_checkpoint(place, trust=["toys"]).model.state_dict()
        state = torch.load("run/checkpoints/last.pt", weights_only=True)["ema"]
        assert torch.equal(weights["shift"], state["shift"].bfloat16().float())
        measured.append(place)
        return None, {"likelihood.nats": entry}

    monkeypatch.setattr(accept, "measured", found)
    assert reproduced() is None
    assert len(measured) == 1
    folder = Path("results/vae_digits")
    result = json.loads((folder / "result.json").read_text())
    assert result["weights"]["dtype"] == "bf16"
    assert result["obtained"] == {"likelihood.nats": 80.125}
    assert "| likelihood.nats | 80.125 |" in (folder / "README.md").read_text()

    entry["verdict"] = "worse"
    assert reproduced() is None
    result = json.loads((folder / "result.json").read_text())
    assert result["weights"]["kept"] is False
    assert result["obtained"] == {"likelihood.nats": 80.0}

    assert reproduced(obtained={"likelihood.nats": 95.0}, verdict={"likelihood.nats": "worse"}) is None
    result = json.loads((folder / "result.json").read_text())
    assert result["weights"]["dtype"] == "bf16", "that figure was missed in float32 too"

    entry["verdict"] = "reached"
    monkeypatch.setattr(accept, "ROOM", size // 2 - 1)
    measured.clear()
    assert reproduced() is None
    result = json.loads((folder / "result.json").read_text())
    assert result["weights"]["kept"] is False, "results/ is full"
    assert not measured


def test_too_large_weights_are_named_and_not_kept(
    accept: ModuleType, reproduced: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduced() is None
    about = json.loads(Path("results/vae_digits/result.json").read_text())["weights"]
    monkeypatch.setattr(accept, "MOST", 10)
    assert reproduced() is None
    assert [f.name for f in Path("results/vae_digits").iterdir()] == ["result.json"]
    result = json.loads(Path("results/vae_digits/result.json").read_text())
    assert result["weights"]["kept"] is False
    assert result["weights"]["sha256"] == about["sha256"]
    assert result["weights"]["bytes"] == about["bytes"]
    (row,) = [row for row in accept.rows() if row[0] == "`vae_digits`"]
    assert row[-1] == "not kept"


def test_a_run_that_went_on_is_not_that_of_the_figure(reproduced: Callable[..., str | None]) -> None:
    assert "is of step 3, the figures are of step 2" in str(reproduced(steps=2))
    assert not Path("results").exists()


def test_the_page_is_that_with_the_marks(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    monkeypatch.setattr(accept, "PAGES", pages)
    with pytest.raises(SystemExit):
        accept.page()
    pages[1].write_text(f"{accept.BEGIN}\n{accept.END}")
    assert accept.page() == pages[1]
    pages[0].write_text(f"{accept.BEGIN}\n{accept.END}")
    assert accept.page() == pages[0]
