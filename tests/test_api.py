"""The Python interface: `gentrain.load`, `gentrain.build` and the contracts."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Ended, environment, toy

import gentrain as package
from gentrain import Batch, DataSpec, GenerativeModel, Turn
from gentrain.cli import main
from gentrain.errors import UserError
from gentrain.training import checkpoint

SMALL = ["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained once; its averaged weights differ from the last ones."""
    folder = tmp_path_factory.mktemp("api") / "run"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # put back afterwards
        patch.chdir(folder.parent)
        settings = ["train.steps=12", "train.batch_size=16", "train.ema=0.9", "dataset=digits"]
        assert main(["train", *SMALL, *settings, f"run_dir={folder}"]) == 0
    return folder


# load


def test_a_trained_model(run: Path, workplace: Path) -> None:
    for place in (run, str(run), run / "checkpoints" / "last.pt", str(run / "checkpoints" / "best.pt")):
        model: Any = package.load(place)
        assert isinstance(model, GenerativeModel)
        assert not model.training
        assert model.spec.shape == (1, 8, 8)
        assert model.spec.levels == 17
        assert model.latent_dim == 2
        x = model.sample(3)
        assert (x.shape, x.dtype) == ((3, 1, 8, 8), torch.uint8)
        log_p, kind = model.log_likelihood(x)
        assert (log_p.shape, kind) == ((3,), "ELBO")
        assert torch.isfinite(log_p).all()
        assert (log_p < 0).all()
    assert list(workplace.iterdir()) == []


def test_the_newest_run_without_an_argument(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)  # where outputs/latest points at the run
    a, b, c = package.load(), package.load("latest"), package.load("run")
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, b.state_dict()[name])
        assert torch.equal(weight, c.state_dict()[name])


def test_the_averaged_weights_are_loaded(run: Path) -> None:
    state = checkpoint.load(run / "checkpoints" / "last.pt")
    weights = package.load(run).state_dict()
    assert list(weights) == list(state["ema"])
    for name, weight in weights.items():
        assert torch.equal(weight, state["ema"][name])
    assert any(not torch.equal(weights[name], state["model"][name]) for name in weights)


def test_the_last_weights_where_there_is_no_average(run: Path, workplace: Path) -> None:
    state = checkpoint.load(run / "checkpoints" / "last.pt")
    checkpoint.save({**state, "ema": None}, Path("plain.pt"))
    for name, weight in package.load("plain.pt").state_dict().items():
        assert torch.equal(weight, state["model"][name])


def test_own_classes_by_trust(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *toy("toy_flow", "train.steps=2", "run_dir=run")).status == 0
    with pytest.raises(UserError, match="trust=toys"):
        package.load("run")
    assert type(package.load("run", trust=["toys"])).__name__ == "ToyFlow"


def test_nothing_to_load(workplace: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        package.load()
    with pytest.raises(UserError, match="no run at nowhere"):
        package.load("nowhere")


# build


@pytest.mark.parametrize(
    ("overrides", "spec"),
    [
        (SMALL, DataSpec(shape=(1, 4, 4), levels=2)),
        (SMALL, DataSpec(shape=(3, 5, 7))),
        (["model=vae", "model.channels=[4]", "model.hidden=8"], DataSpec(shape=(1, 8, 8), levels=17)),
        (["model=vae", "model.channels=[4,4]", "dataset=mnist"], DataSpec(shape=(3, 16, 12))),
        ([], DataSpec(shape=(1, 8, 8))),
    ],
)
def test_a_fresh_model_for_any_images(workplace: Path, overrides: list[str], spec: DataSpec) -> None:
    """It samples, measures, learns a step, and writes no file."""
    model: Any = package.build(overrides, spec)
    assert isinstance(model, GenerativeModel)
    assert model.training, "a fresh model is there to be trained"
    x = model.sample(4)
    assert (x.shape, x.dtype) == ((4, *spec.shape), torch.uint8)
    assert int(x.max()) < spec.levels
    log_p, _ = model.log_likelihood(x)
    assert log_p.shape == (4,)
    (turn,) = model.turns()
    assert isinstance(turn, Turn)
    optimizer = torch.optim.SGD(turn.parameters(), lr=0.0)
    loss, terms = turn.loss(Batch(x), 0)
    loss.backward()
    optimizer.step()
    assert loss.ndim == 0
    assert terms
    assert list(workplace.iterdir()) == []


def test_the_overrides_count(workplace: Path) -> None:
    spec = DataSpec(shape=(1, 4, 4), levels=2)
    sizes = [package.build([*SMALL, f"model.latent_dim={d}"], spec).latent_dim for d in (3, 5)]  # type: ignore[attr-defined]
    assert sizes == [3, 5]


WRONG = [
    (["model=vea"], ["no such model", "did you mean vae"]),
    (["model.latnt_dim=3"], ["unknown key model.latnt_dim", "model.latent_dim"]),
    (["latent_dim=3"], ["unknown key latent_dim", "model.latent_dim"]),
    (["model.latent_dim=big"], ["model.latent_dim: expected int, found 'big'"]),
    (["model=vae_mlp", "model.latent_dim=0"], ["latent_dim", "found 0"]),
    (["model.latent_dim=${nowhere}"], ["nowhere"]),
    (["model=null"], ["model=null: expected a name"]),
    (["train.steps=0"], ["train.steps: expected at least 1", "found 0"]),
    (["model._target_=os.system"], ["'os.system' is refused"]),
    (["model=vae,vae_mlp"], ["model"]),
    (["model='"], ["cannot read"]),
    (["nonsense"], ["nonsense"]),
    (["model=vae"], ["4x4", "8x8", "fully connected"]),
]


@pytest.mark.parametrize(("overrides", "parts"), WRONG, ids=[" ".join(o) for o, _ in WRONG])
def test_overrides_that_do_not_fit(workplace: Path, overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        package.build(overrides, DataSpec(shape=(1, 4, 4), levels=2))
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value)
    assert list(workplace.iterdir()) == []


# In one process


def test_again_and_again_and_between_commands(
    run: Path, gentrain: Callable[..., Ended], workplace: Path
) -> None:
    """Hydra's state is one for the process: neither side may leave it in a state that hurts the other."""
    spec = DataSpec(shape=(1, 4, 4), levels=2)
    for _ in range(2):
        package.build(SMALL, spec)
        package.load(run)
        assert gentrain("sample", f"ckpt={run}", "n=2", "out=x.png").status == 0
        with pytest.raises(UserError):
            package.build(["model=vea"], spec)
        assert gentrain("train", "model=vea").status == 2
        assert gentrain("train", *SMALL, "dry_run=true").status == 0
    package.build(SMALL, spec)


def test_inside_an_application_of_hydra(workplace: Path) -> None:
    """A script with a Hydra of its own can build models; its configuration stays as it was."""
    script = """
import hydra, gentrain
from hydra.core.hydra_config import HydraConfig
@hydra.main(config_path=None, version_base="1.3")
def app(config):
    before = HydraConfig.get().job.name
    gentrain.build(["model=vae_mlp"], gentrain.DataSpec(shape=(1, 4, 4), levels=2))
    assert HydraConfig.get().job.name == before
    print("built")
app()
"""
    Path("app.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "app.py", "hydra.run.dir=.", "hydra.output_subdir=null"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "built\n"


# The package


def test_importing_the_package_imports_no_torch() -> None:
    script = """
import sys, gentrain
assert gentrain.__version__
assert set(gentrain.__all__) >= {"build", "load", "Batch", "DataSpec", "GenerativeModel", "Turn"}
heavy = {"torch", "hydra", "omegaconf", "numpy"} & set(sys.modules)
assert not heavy, heavy
gentrain.DataSpec(shape=(1, 2, 2))
assert "torch" in sys.modules
assert "hydra" not in sys.modules, "the contracts do not need it"
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=environment())


def test_every_public_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        package.lode  # noqa: B018


def test_the_contracts_from_outside() -> None:
    spec = DataSpec(shape=[1, 4, 4], levels=2, classes=2, label_names=["a", "b"])  # type: ignore[arg-type]
    assert spec.shape == (1, 4, 4)
    assert spec.dims == 16
    assert DataSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(ValueError, match="levels must be 2 to 256, found 1"):
        DataSpec(shape=(1, 4, 4), levels=1)
    batch = Batch(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.arange(6))
    assert [len(part.x) for part in batch.split(3)] == [2, 2, 2]
    labels = [part.label.tolist() for part in batch.split(3) if part.label is not None]
    assert labels == [[0, 1], [2, 3], [4, 5]]
    turn = Turn("critic", [torch.nn.Linear(1, 1)], lambda batch, step: (torch.zeros(()), {}), every=2)
    assert [turn.due(step) for step in range(4)] == [False, True, False, True]
