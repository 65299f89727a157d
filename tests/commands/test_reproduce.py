"""`gentrain reproduce`: trains or goes on, measures, compares, and its exit status says how it went."""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reproducing import FOLDER, TARGET, own_configs
from running import TESTS, Ended

from gentrain.commands.reproduce import verdict
from gentrain.config import options


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


def test_a_seed_that_goes_on_takes_the_result_of_all_away(
    reproduce: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce("seeds=[0,1,2]").status == 0

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gentrain.commands.reproduce.measured", interrupted)
    assert reproduce("seeds=[0,1,2]").status == 130, "nothing was trained"
    assert (FOLDER / "result.json").exists()
    assert reproduce("seeds=[0,1,2]", "train.steps=21").status == 130
    assert not (FOLDER / "result.json").exists()
    assert not (FOLDER / "seed_0/result.json").exists()
    assert (FOLDER / "seed_1/result.json").exists(), "this one has not moved"


@pytest.mark.parametrize("seeds", ["0,1", "0,1,1", ""])
def test_seeds_without_a_middle(reproduce: Callable[..., Ended], seeds: str) -> None:
    done = reproduce(f"seeds=[{seeds}]")
    assert done.status == 2
    assert "seeds: expected an odd number of different ones" in done.one_line()
    assert not FOLDER.exists()


def test_a_seed_that_cannot_be(reproduce: Callable[..., Ended]) -> None:
    done = reproduce("seeds=[0,-1,2]")
    assert done.status == 2
    assert "seeds: expected each at least 0 and below 2^63, found -1" in done.one_line()
    assert not FOLDER.exists()


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
