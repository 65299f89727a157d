"""`gentrain report`: what it finds in a run folder, compares, and refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import fetched
from omegaconf import OmegaConf
from PIL import Image
from running import Ended, toy

from gentrain.commands.figures import figures_of
from gentrain.commands.retyped import command_of, differing
from gentrain.composing import composed
from gentrain.config import conform
from gentrain.pages import page as pages
from gentrain.schemas import TrainConfig


def settled(*overrides: str) -> Any:
    """The configuration that a run of `gentrain train <overrides>` would keep."""
    config = conform(TrainConfig, composed("train", overrides))
    chosen = dict(word.split("=", 1) for word in overrides if "=" in word)
    config.names.update(
        model=chosen.get("model", "vae"),
        dataset=chosen.get("dataset", "digits"),
        experiment=chosen.get("experiment"),
    )
    return config


@pytest.mark.parametrize(
    "typed",
    [
        ["model=vae_mlp", "dataset=digits"],
        ["model=vae_mlp", "dataset=mnist", "model.hidden=[16,8]", "optim.main.lr=0.01", "seed=4"],
        ["model=gan", "dataset=digits", "train.ema=null", "train.epochs=3", "dataset.flip=true"],
        ["experiment=vae_digits", "train.steps=7"],
        [
            *("model=vae_mlp", "dataset=digits", "dataset.license='null, (b)'", "~optim.main.betas"),
            *("optim.main._target_=torch.optim.SGD", "++optim.main.momentum=0.5"),
            *("++schedule.main._target_=constant_then_linear", "++schedule.main.constant=2"),
            "++schedule.main.total=${train.steps}",
        ],
        ["experiment=gated_pixelcnn_mnist", "~schedule.main"],
        ["model=vae_mlp", "dataset=digits", "dataset.license=CC BY 4.0"],
        ["model=vae_mlp", "dataset=digits", "dataset.license='7'"],
    ],
)
def test_the_command_that_gives_a_configuration(typed: list[str]) -> None:
    config = settled(*typed)
    command = command_of(config)
    assert command is not None
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("gentrain", "train")
    assert settled(*words) == config
    assert len(words) <= len(typed), "nothing that is so anyway"


def test_of_a_model_that_is_not_known_here_there_is_none() -> None:
    config = settled("model=vae", "dataset=digits")
    config.names.model = "of_ones_own"
    assert command_of(config) is None


def test_what_tells_runs_apart() -> None:
    configs = [
        settled("model=vae", "dataset=digits", "seed=1", "run_dir=a"),
        settled("model=vae", "dataset=digits", "seed=2", "optim.main.lr=0.5", "run_dir=b"),
    ]
    assert differing(configs) == [{"optim.main.lr": "0.001"}, {"optim.main.lr": "0.5"}]
    others = [settled("model=vae", "dataset=digits"), settled("model=gan", "dataset=digits")]
    assert [own["model"] for own in differing(others)] == ["vae", "gan"]
    assert not [key for own in differing(others) for key in own if key.startswith("model.")]


def test_figures_of_the_checkpoint_alone(workplace: Path) -> None:
    entry = {"step": 20, "dataset": "digits", "split": "test", "images": 297, "kind": "ELBO", "levels": 17}
    entry |= {"nats": 90.5, "nats_stderr": 0.5, "bits_per_dim": 2.0, "bits_per_dim_stderr": 0.1}
    Path("eval_test.json").write_text(json.dumps(entry))
    Path("eval_test-2.json").write_text(json.dumps({**entry, "step": 10, "nats": 1.0}))
    own = {"nats": None, "own": 1, "own_stderr": 2, "each": "crop"}
    Path("eval_probe_test.json").write_text(json.dumps({**entry, **own}))
    Path("eval_broken.json").write_text("{")
    found = {figure.name: figure for figure in figures_of(Path(), 20)}
    assert set(found) == {"nats", "bits per dim", "own"}
    assert found["nats"][1:4] == (90.5, 0.5, "digits test, 297 images, ELBO")
    assert "lower is better" in found["nats"].meaning
    assert found["own"].meaning == ""
    assert found["own"][3] == "digits test, 297 crops, ELBO"


def test_a_page_of_a_run(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("report", f"ckpt={trained.conv}", "animation=true")
    assert done.status == 2
    assert "pictures of samples at several steps" in done.one_line()
    shutil.copy(trained.conv / "samples/step_00000020.png", trained.conv / "samples/step_00000010.png")
    assert gentrain("eval", f"ckpt={trained.conv}", "samples=1").status == 0
    done = gentrain("report", f"ckpt={trained.conv}", "animation=true")
    assert done.status == 0, done.err
    page = (trained.conv / "report.html").read_text()
    assert fetched(page) == []
    for words in ("vae on digits", "parameters", "20 of 32 images", "gradient norm", "test, 297 images"):
        assert words in page
    command = re.findall(r'aria-label="Command">([^<]+)<', page)
    assert len(command) == 1
    assert "&#39;model.channels=[8]&#39; model.hidden=16 train.steps=20" in command[0]
    titles = re.findall(r"<h3>(\w+)</h3>", page)
    assert titles == ["Reconstructions", "Interpolations"]
    assert page.count("data:image/png") == 2 + 1 + 2, "two steps, the one that is shown, two pictures"
    with Image.open(trained.conv / "report.gif") as film:
        assert film.n_frames >= 1
        assert film.format == "GIF"
    assert not list(trained.conv.glob("reconstructions*.png")), "nothing else is left in the run"


@pytest.mark.slow
def test_runs_beside_one_another(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("report", f"ckpt=[{trained.mlp},'{trained.spaced}']", "out=both.html", "n=4")
    assert done.status == 0, done.err
    assert "mean ± sd of 2" in Path("both.html").read_text(), "the same settings and another folder"
    done = gentrain("report", f"ckpt=[{trained.mlp},{trained.conv}]", "out=two.html", "n=4")
    assert done.status == 0, done.err
    page = Path("two.html").read_text()
    assert fetched(page) == []
    header, *rows = Path("two.csv").read_text().splitlines()
    assert header.startswith("run,model,")
    names = [row.strip('"').partition(",")[0] for row in rows]
    assert names == ["model=vae_mlp", "model=vae"]


def test_a_sweep(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """The folder of a sweep is its runs; one that has no checkpoint is left out."""
    Path("sweep").mkdir()
    for name in "abc":
        shutil.copytree(trained.mlp, f"sweep/{name}")
    for name in "ab":
        config = OmegaConf.load(f"sweep/{name}/config.yaml")
        assert config.seed == 3
    (Path("sweep/c/checkpoints") / "last.pt").unlink()
    done = gentrain("report", "ckpt=sweep", "out=s.html", "n=1")
    assert done.status == 0, done.err
    assert "2 runs" in done.out


def test_landmarks_of_a_game(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """D(G(z)) and the value of the game, beside -log 4 and one half."""
    for objective in ("minimax", "nonsaturating"):
        small = ["model=gan", "dataset=digits", "model.channels=4", f"model.objective={objective}"]
        short = ["train.steps=5", "train.batch_size=8", "train.log_every=1", "train.sample_count=4"]
        assert gentrain("train", *small, *short, f"run_dir={objective}").status == 0
    done = gentrain("report", "ckpt=[minimax,nonsaturating]", "n=2", "beginning=2")
    assert done.status == 0, done.err
    page = Path("report.html").read_text()
    assert "value of the game V(D, G)" in page
    assert "the line is at -1.386, -log 4: the optimum" in page
    assert "the line is at 0.5, 1/2" in page
    early = page[page.index("The first 2 steps") : page.index(">Loss<")]
    assert "gradient norm, generator" in early
    assert "D(G(z))" in early


def test_what_is_refused(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit status 2, nothing written."""
    assert gentrain("export", f"ckpt={trained.mlp}", "out=shared").status == 0
    here = sorted(map(str, Path().rglob("*")))

    def refused(*arguments: str) -> str:
        done = gentrain("report", *arguments)
        assert done.status == 2, done.out
        assert sorted(map(str, Path().rglob("*"))) == here
        return done.one_line()

    assert "lies in no run folder" in refused("ckpt=shared")
    assert "no run at" in refused("ckpt=[mlp,nowhere]")
    assert "one is empty" in refused("ckpt=[mlp,]")
    assert "ends in .html" in refused("ckpt=mlp", "out=a.pdf")
    assert "is for one run" in refused(f"ckpt=[mlp,{trained.conv}]", "animation=true")
    assert "at most 32" in refused("ckpt=[" + ",".join(["mlp"] * 33) + "]")
    monkeypatch.setattr(pages, "LARGEST", 1000)
    assert "frames=2 shows fewer steps" in refused("ckpt=mlp", "pictures=false")


def test_a_model_of_ones_own(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *toy("toy_gan", "train.steps=2", "run_dir=run")).status == 0
    done = gentrain("report", "trust=[toys]", "ckpt=run", "pictures=false")
    assert done.status == 0, done.err
    assert 'aria-label="Command"' not in Path("run/report.html").read_text(), "its folder is not known"
