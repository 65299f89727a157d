"""`gentrain reproduce`: trains or goes on, measures, compares, and its exit status says how it went."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import TESTS, Ended, run_process, start

from gentrain.api import compose_train
from gentrain.cli import main
from gentrain.commands.length import saved_text
from gentrain.commands.reproduce import check_recipe, verdict
from gentrain.config import options
from gentrain.errors import UserError

TARGET: dict[str, Any] = {
    "metric": "likelihood.nats",
    "split": "test",
    "published": 180.0,
    "at_most": 180.0,
    "tolerance": 100.0,
    "samples": 3,
    "source": "a paper, table 1",
}
FOLDER = Path("outputs/reproduce/tiny")


@pytest.fixture
def reproduce(gentrain: Callable[..., Ended], workplace: Path) -> Callable[..., Ended]:
    """`reproduce(*overrides, targets=[...])`: of a little VAE on digits, 20 steps long."""

    def call(*more: str, targets: Any = (TARGET,), verb: str = "reproduce", **recipe: Any) -> Ended:
        experiment = {
            "defaults": [{"override /model": "vae_mlp"}, {"override /dataset": "digits"}],
            "model": {"hidden": [16], "latent_dim": 4},
            "train": {"steps": 20, "batch_size": 32, "checkpoint_every": 5, "sample_count": 4, **recipe},
            "targets": list(targets),
        }
        file = workplace.parent / "own" / "experiment" / "tiny.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\n" + yaml.safe_dump(experiment))
        return gentrain(verb, "--config-dir", str(file.parents[1]), "experiment=tiny", *more)

    return call


def own_configs() -> list[str]:
    """What `reproduce` names its YAML by."""
    return ["--config-dir", str(Path.cwd().parent / "own")]


@pytest.fixture
def result() -> Callable[[], dict[str, Any]]:
    return lambda: json.loads((FOLDER / "result.json").read_text())


def test_a_figure_within_its_tolerance(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    done = reproduce()
    assert done.status == 0, done.err
    found = result()
    measured = json.loads((FOLDER / "eval_test.json").read_text())
    assert found["obtained"] == {"likelihood.nats": measured["nats"]}
    assert found["stderr"] == {"likelihood.nats": measured["nats_stderr"]}
    assert found["estimator"] == {
        "likelihood.nats": "IWAE-3, digits test, 297 images, 17 levels, binarize=none"
    }
    assert found["published"] == {"likelihood.nats": 180.0}
    assert found["tolerance"] == {"likelihood.nats": 100.0}
    assert found["verdict"] == {"likelihood.nats": "reproduced"}
    assert found["source"] == {"likelihood.nats": "a paper, table 1"}
    assert 0 <= found["minutes"] < 5
    assert found["steps"] == 20
    assert shlex.split(found["command"]) == ["gentrain", "reproduce", *own_configs(), "experiment=tiny"]
    assert found["changed"] == []
    assert set(found["versions"]) >= {"gentrain", "torch", "python"}
    assert "thread" in found["hardware"]
    head, row = [line for line in done.out.splitlines() if " | " in line]
    assert [cell.strip() for cell in head.split("|")][1:6:2] == ["published", "obtained", "minutes"]
    assert f"{measured['nats']:.4f} +- {measured['nats_stderr']:.4f}" in row
    assert row.endswith("reproduced")


def test_the_commit_is_that_of_the_checkout(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    assert reproduce().status == 0
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    if head.returncode:
        assert result()["commit"] is None
    else:
        assert result()["commit"].removesuffix("-dirty") == head.stdout.strip()


def test_worse_ends_with_1_and_keeps_what_it_found(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    done = reproduce(targets=[{**TARGET, "published": 20.0, "at_most": 20.0, "tolerance": 1.0}])
    assert done.status == 1
    assert done.one_line() == "gentrain: tiny: likelihood.nats is worse than its target allows"
    assert result()["verdict"] == {"likelihood.nats": "worse"}


def test_better_than_published_wants_a_second_look(reproduce: Callable[..., Ended]) -> None:
    done = reproduce(targets=[{**TARGET, "published": 900.0, "at_most": 900.0, "tolerance": 1.0}])
    assert done.status == 0
    assert "better: look again" in done.out


def test_a_full_disk_under_the_result(
    reproduce: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(self: Path, *text: Any, **how: Any) -> int:
        if "result.json" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *text, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        ended = reproduce()
    assert ended.status == 1
    place = FOLDER / "result.json"
    assert ended.one_line() == f"gentrain: cannot write {place}: No space left on device; make room there"
    assert not place.exists()


def test_several_targets_of_several_metrics_each_in_its_direction(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    own = {"published": None, "source": "own recipe"}
    targets = [
        {**own, "metric": "likelihood.bits_per_dim", "at_most": 100},
        {**own, "metric": "likelihood.nats", "at_least": 1000},
        {**own, "metric": "reconstruction.reconstruction_mse", "at_most": 1},
    ]
    done = reproduce(targets=targets)
    assert done.status == 1
    assert list(result()["verdict"].values()) == ["reached", "worse", "reached"]
    assert result()["estimator"]["likelihood.nats"] == (
        "ELBO, digits test, 297 images, 17 levels, binarize=none"
    )


@pytest.mark.parametrize(
    ("excess", "beyond", "tolerance", "expected"),
    [
        (0.4, 0.4, 0.4, "reproduced"),
        (0.401, 0.401, 0.4, "worse"),
        (-0.4, -0.4, 0.4, "reproduced"),
        (-0.401, -0.401, 0.4, "better"),
        (-5.0, None, 0.4, "reached"),
        (0.5, None, 0.4, "worse"),
        (-1.0, 2.0, 0.4, "reached"),  # what was wanted is less than what was published
        (-2.6, 0.4, 0.4, "reproduced"),
        (0.5, 3.5, 0.4, "worse"),
        (math.nan, math.nan, 0.4, "worse"),
        (-math.inf, -math.inf, 0.4, "worse"),
    ],
)
def test_verdicts(excess: float, beyond: float | None, tolerance: float, expected: str) -> None:
    assert verdict(excess, beyond, tolerance) == expected


# Several seeds


def test_of_several_seeds_the_one_in_the_middle_counts(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    done = reproduce("seeds=[0,1,2]")
    assert done.status == 0, done.err
    found = result()
    nats = {seed: figures["likelihood.nats"] for seed, figures in found["seeds"].items()}
    assert len(set(nats.values())) == 3, "each is of its own weights"
    middle = sorted(nats, key=nats.__getitem__)[1]
    assert found["obtained"] == {"likelihood.nats": nats[middle]}
    assert found["run"] == f"seed_{middle}"
    assert found["changed"] == ["seeds=[0,1,2]"]
    each = ", ".join(f"{value:.4g}" for value in nats.values())
    assert f"seeds   likelihood.nats: {each} of seeds 0, 1, 2" in done.out
    own = json.loads((FOLDER / found["run"] / "result.json").read_text())
    assert own == {key: value for key, value in found.items() if key not in ("seeds", "run")}

    alone = reproduce("seeds=[0,1,2]", f"seed={middle}", "run_dir=alone")  # one that is named, and no other
    assert alone.status == 0, alone.err
    assert json.loads(Path("alone/result.json").read_text())["obtained"] == found["obtained"]

    again = reproduce("seeds=[0,1,2]")
    assert again.status == 0
    assert again.out.count("is complete") == 3
    assert result()["seeds"] == found["seeds"]


@pytest.mark.parametrize("seeds", ["0,1", "0,1,1", ""])
def test_seeds_without_a_middle(reproduce: Callable[..., Ended], seeds: str) -> None:
    done = reproduce(f"seeds=[{seeds}]")
    assert done.status == 2
    assert "seeds: expected an odd number of different ones" in done.one_line()
    assert not FOLDER.exists()


# Going on


@pytest.mark.slow
def test_an_interrupted_call_is_taken_up(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    whole = reproduce("run_dir=whole")
    assert whole.status == 0
    expected = json.loads(Path("whole/result.json").read_text())
    assert reproduce(f"run_dir={FOLDER}", "train.steps=10", verb="train").status == 0
    done = reproduce()
    assert done.status == 0, done.err
    assert "from step 10" in done.out
    for key in ("obtained", "steps"):
        assert result()[key] == expected[key]


def test_a_run_that_went_further_is_another(reproduce: Callable[..., Ended]) -> None:
    assert reproduce(f"run_dir={FOLDER}", "train.steps=25", verb="train").status == 0
    done = reproduce()
    assert done.status == 2
    assert "was trained for 25 steps, train.steps is 20" in done.one_line()


def test_a_complete_run_is_measured_again_and_not_trained(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    assert reproduce().status == 0
    before, checkpoint = result(), (FOLDER / "checkpoints/last.pt").read_bytes()
    done = reproduce(targets=[{**TARGET, "samples": 5}])
    assert done.status == 0, done.err
    assert f"{FOLDER} is complete" in done.out
    assert (FOLDER / "checkpoints/last.pt").read_bytes() == checkpoint
    assert result()["minutes"] == before["minutes"]
    assert "IWAE-5" in result()["estimator"]["likelihood.nats"]


def test_a_target_says_how_many_samples_and_which_features(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    own = {"metric": "frechet.frechet", "source": "own", "at_most": 1e9, "at_least": None, "tolerance": 0.0}
    done = reproduce(targets=[{**TARGET, **own, "n": 30, "features": "lite0"}])
    assert done.status == 0, done.err
    assert "30 samples" in result()["estimator"]["frechet.frechet"]
    assert "lite0's features" in result()["estimator"]["frechet.frechet"]
    refused = reproduce(targets=[{**TARGET, **own, "features": "vgg"}])
    assert refused.status == 2
    assert "targets[0].features: expected one of classifier, lite0, inception" in refused.one_line()


def test_another_recipe_does_not_go_on_in_the_same_folder(reproduce: Callable[..., Ended]) -> None:
    assert reproduce().status == 0
    before = {f: f.read_bytes() for f in FOLDER.rglob("*") if f.is_file()}
    done = reproduce(batch_size=16)
    assert done.status == 2
    assert "begun with train.batch_size=32, now it is 16" in done.one_line()
    assert {f: f.read_bytes() for f in FOLDER.rglob("*") if f.is_file()} == before


def test_a_setting_that_came_later_is_no_other_recipe(tmp_path: Path) -> None:
    recipe = ["model=pixelcnn", "dataset=digits"]
    written = saved_text(compose_train(recipe))
    assert written.count("  skips: false\n") == 1
    (tmp_path / "config.yaml").write_text(written.replace("  skips: false\n", ""))  # of an earlier version
    check_recipe(compose_train(recipe), tmp_path)
    with pytest.raises(UserError, match=r"begun with model\.skips=False, now it is True"):
        check_recipe(compose_train([*recipe, "model.skips=true"]), tmp_path)


def test_overrides_that_change_the_recipe_are_kept_with_the_result(
    reproduce: Callable[..., Ended], result: Callable[[], dict[str, Any]]
) -> None:
    done = reproduce("train.batch_size=16", "device=cpu")
    assert done.status == 0
    assert "not the recipe of tiny, but with train.batch_size=16" in done.out
    assert result()["changed"] == ["train.batch_size=16"]
    words = ["gentrain", "reproduce", *own_configs(), "experiment=tiny", "train.batch_size=16"]
    assert shlex.split(result()["command"]) == words


def test_what_was_measured_goes_when_training_goes_on(reproduce: Callable[..., Ended]) -> None:
    assert reproduce("train.steps=10").status == 0
    assert (FOLDER / "result.json").is_file()
    assert reproduce(targets=[{**TARGET, "metric": "likelihood.natz"}]).status == 2
    assert not (FOLDER / "result.json").exists()


def test_a_sweep_goes_on_after_a_figure_that_is_worse(reproduce: Callable[..., Ended]) -> None:
    worse = [{**TARGET, "published": 20.0, "at_most": 20.0, "tolerance": 1.0}]
    done = reproduce("-m", "seed=0,1", "run_dir=runs/${seed}", targets=worse)
    assert done.status == 1
    assert done.err.count("is worse than its target allows") == 2
    assert Path("runs/0/result.json").is_file()
    assert Path("runs/1/result.json").is_file()
    done = reproduce("seed=0,1")
    assert done.status == 2
    assert "add -m to reproduce each of them" in done.one_line()


def test_a_dry_run_writes_nothing(reproduce: Callable[..., Ended], workplace: Path) -> None:
    done = reproduce("dry_run=true")
    assert done.status == 0, done.err
    assert "dry run" in done.out
    assert list(workplace.iterdir()) == []


# Mistakes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "likelihod.nats"}, "targets[0].metric: expected a metric and a figure"),
        ({"metric": "likelihood"}, "targets[0].metric: expected a metric and a figure"),
        ({"at_least": 3.0}, "expected one of at_most and at_least"),
        ({"at_most": None}, "expected one of at_most and at_least"),
        ({"tolerance": -1.0}, "targets[0].tolerance: expected at least 0"),
        ({"split": "tset"}, "targets[0].split"),
        ({"tolerence": 1.0}, "tolerence"),
    ],
)
def test_a_target_that_cannot_be_measured(
    reproduce: Callable[..., Ended], change: dict[str, Any], said: str
) -> None:
    done = reproduce(targets=[{**TARGET, **change}])
    assert done.status == 2
    assert said in done.one_line()
    assert not FOLDER.exists()


def test_an_unknown_figure_costs_no_training(reproduce: Callable[..., Ended]) -> None:
    done = reproduce(targets=[{**TARGET, "metric": "likelihood.natz"}])
    assert done.status == 2
    assert "likelihood has no figure 'natz'; did you mean nats" in done.one_line()
    done = reproduce()  # the YAML mended
    assert done.status == 0
    assert f"{FOLDER} is complete" in done.out


def test_a_target_without_its_source(reproduce: Callable[..., Ended]) -> None:
    done = reproduce(targets=[{k: v for k, v in TARGET.items() if k != "source"}])
    assert (done.status, done.one_line()) == (2, "gentrain: targets[0].source is missing")


def test_no_targets_no_experiment_or_an_unknown_one(
    reproduce: Callable[..., Ended], gentrain: Callable[..., Ended], workplace: Path
) -> None:
    done = reproduce(targets=[])
    assert done.status == 2
    assert "has no targets" in done.one_line()
    done = gentrain("reproduce")
    assert done.status == 2
    assert ", ".join(options("experiment")) in done.one_line()
    done = gentrain("reproduce", "experiment=vae_mnits")
    assert done.status == 2
    assert "did you mean vae_mnist" in done.one_line()
    done = gentrain("reproduce", "experiment=vae_digits", "resume=latest")
    assert done.status == 2
    assert "resume" in done.one_line()
    done = gentrain("reproduce", "experiment=vae_digits", "train.stepps=3")
    assert "did you mean train.steps" in done.one_line()
    assert list(workplace.iterdir()) == []


def test_what_make_types() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "reproduce-vae_digits"],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    # Within `make test` make says besides in which folder it is.
    assert any(line.endswith("gentrain reproduce experiment=vae_digits") for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["config.yaml", "metrics.jsonl"])
def test_control_c_and_the_same_command_again(workplace: Path, sign: str) -> None:
    arguments = ["reproduce", "experiment=ae_digits", "train.steps=400", "run_dir=a b"]
    process = start(*arguments, cwd=workplace)
    wait_for(workplace / "a b" / sign)  # before the first step, in one, or later
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    again = words_to_go_on(Ended(130, "", err))
    assert again[:4] == ["gentrain", *arguments[:3]]
    done = run_process(*again[1:], cwd=workplace)
    assert done.status in (0, 1), done.err
    result = json.loads((workplace / "a b" / "result.json").read_text())
    assert (result["steps"], result["changed"]) == (400, ["train.steps=400"])


@pytest.mark.parametrize("where", ["train.make_trainer", "train.write_config", "measure"])
def test_control_c_before_the_first_step_and_after_the_last(
    reproduce: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"gentrain.commands.reproduce.{where}", interrupt)
        done = reproduce("seed=3")
    assert done.status == 130
    again = words_to_go_on(done)
    assert again == ["gentrain", "reproduce", *own_configs(), "experiment=tiny", "seed=3"]
    assert main(again[1:]) == 0
    assert (FOLDER / "result.json").is_file()


@pytest.mark.parametrize(
    "left",
    [
        ".config.yaml.4711.partial",
        "config.yaml",  # empty: the power went before its content was on the disk
        "reproduce.log",  # the shell's, of the command itself
        "slurm-12.out",
    ],
)
def test_the_same_command_begins_anew_where_nothing_came_of_the_last(
    reproduce: Callable[..., Ended], left: str
) -> None:
    FOLDER.mkdir(parents=True)
    for name in (".lock", ".pid"):
        (FOLDER / name).touch()
    (FOLDER / "checkpoints").mkdir()
    content = "" if left == "config.yaml" else "model:"
    (FOLDER / left).write_text(content)
    done = reproduce()
    assert done.status == 0, done.err
    assert (FOLDER / "result.json").is_file()
    assert not list(FOLDER.glob(".*.partial"))
    if left.endswith((".log", ".out")):
        assert (FOLDER / left).read_text() == content


@pytest.mark.parametrize("file", ["thesis.tex", "metrics.jsonl", "checkpoints/last.pt", "samples/a.png"])
def test_what_is_of_value_is_not_trained_over(reproduce: Callable[..., Ended], file: str) -> None:
    (FOLDER / file).parent.mkdir(parents=True)
    (FOLDER / file).write_text("x")
    done = reproduce()
    assert done.status == 2
    assert f"run_dir={FOLDER} is not empty" in done.one_line()
    assert (FOLDER / file).read_text() == "x"
    assert not (FOLDER / "config.yaml").exists()


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def words_to_go_on(done: Ended) -> list[str]:
    return shlex.split(done.one_line().partition("go on with: ")[2])


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 100
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} was not made"
        time.sleep(0.05)


def test_a_longer_recipe_goes_on_with_the_schedule_of_its_length(reproduce: Callable[..., Ended]) -> None:
    cosine = [
        "+schedule.main._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
        "+schedule.main.T_max=${train.steps}",
    ]
    assert reproduce(*cosine).status == 0
    longer = reproduce(*cosine, "train.steps=30")
    assert longer.status == 0, longer.err
    assert "schedule.main is now that of a run of 30 steps" in longer.out
    lines = [json.loads(line) for line in (FOLDER / "metrics.jsonl").read_text().splitlines()]
    assert [line["lr/main"] for line in lines if "lr/main" in line][-1] == 0
