"""`gentrain reproduce` a second time: it goes on, measures again, or begins anew."""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import ConfigKeyError
from reproducing import FOLDER, TARGET, own_configs
from running import Ended, run_process, start

from gentrain.api import compose_train
from gentrain.cli import main
from gentrain.commands.length import saved_text
from gentrain.commands.reproduce import check_recipe
from gentrain.errors import UserError


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


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def interrupt_a_library(*_: Any, **__: Any) -> None:
    """As OmegaConf does in `create`, to the letter."""
    try:
        try:
            raise KeyboardInterrupt
        finally:
            None._invalidate_flags_cache()  # type: ignore[attr-defined]
    except AttributeError as error:
        raise ConfigKeyError(str(error)) from None


@pytest.mark.parametrize("how", [interrupt, interrupt_a_library])
@pytest.mark.parametrize("where", ["train.make_trainer", "train.write_config", "measure"])
def test_control_c_before_the_first_step_and_after_the_last(
    reproduce: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    how: Callable[..., None],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"gentrain.commands.reproduce.{where}", how)
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


@pytest.mark.parametrize(
    "file", ["thesis.tex", "empty.txt", "metrics.jsonl", "checkpoints/last.pt", "samples/a.png"]
)
def test_what_is_of_value_is_not_trained_over(reproduce: Callable[..., Ended], file: str) -> None:
    (FOLDER / file).parent.mkdir(parents=True)
    (FOLDER / file).write_text(content := "" if file == "empty.txt" else "x")
    done = reproduce()
    assert done.status == 2
    assert f"run_dir={FOLDER} is not empty" in done.one_line()
    assert (FOLDER / file).read_text() == content
    assert not (FOLDER / "config.yaml").exists()


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
