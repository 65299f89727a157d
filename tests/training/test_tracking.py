"""What a run writes while it trains."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import MODELS, OFTEN, Ended, toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gentrain.errors import Fault
from gentrain.training.plan import Plan
from gentrain.training.tracking import Tracker, read_metrics, truncate_metrics

PLAN = Plan(
    steps=3,
    batch_size=32,
    log_every=1,
    eval_every=1,
    sample_every=1,
    checkpoint_every=1,
    keep=1,
    sample_count=1,
    seed=0,
    train_images=64,
    say_seconds=0,
)


def events(folder: str) -> EventAccumulator:
    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    return accumulator


def test_tensorboard_metrics_and_pictures_agree(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", *MODELS["vae"], *OFTEN, "train.steps=100", "run_dir=run")
    assert done.status == 0, done.err
    board = events("run")
    expected = {"loss/total", "loss/reconstruction", "loss/kl", "grad_norm/main", "lr/main"}
    expected |= {"eval/nats", "eval/bits_per_dim", "speed/images_per_second"}
    assert expected <= set(board.Tags()["scalars"])
    lines = read_metrics(Path("run/metrics.jsonl"))
    for tag in ("loss/total", "eval/nats"):
        logged = [(s.step, pytest.approx(s.value, rel=1e-5)) for s in board.Scalars(tag)]
        assert [(line["step"], line[tag]) for line in lines if tag in line] == logged
    assert [s.step for s in board.Scalars("loss/total")] == list(range(10, 101, 10))
    (text,) = board.Tensors("config/text_summary")
    (config,) = text.tensor_proto.string_val
    assert "    latent_dim: 16" in config.decode()
    plugin = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    started = HParamsPluginData.FromString(plugin).session_start_info
    assert started.hparams["model"].string_value == "vae"
    assert started.hparams["model.channels"].string_value == "[8,8]"
    assert started.hparams["optim.main.lr"].number_value == 1e-3
    plugin = board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = {info.name.tag for info in HParamsPluginData.FromString(plugin).experiment.metric_infos}
    assert {"loss/total", "eval/nats"} <= metrics <= set(board.Tags()["scalars"])
    assert len(list(Path("run").rglob("events.out.*"))) == 1
    assert set(board.Tags()["images"]) == {"samples", "reconstructions"}
    for kind in ("samples", "reconstructions"):
        with Image.open(f"run/{kind}/step_00000100.png") as picture:
            assert picture.mode == "L"
            assert min(picture.size) > 56


def test_the_sample_grid_comes_from_the_same_noise(gentrain: Callable[..., Ended]) -> None:
    settings = [*OFTEN, "train.steps=2", "train.sample_every=1", "optim.main.lr=0", "train.ema=null"]
    assert gentrain("train", *MODELS["vae"], *settings, "run_dir=run").status == 0
    one, two = (Path(f"run/samples/step_0000000{i}.png").read_bytes() for i in (1, 2))
    assert one == two


def test_each_turn_has_its_own_curves(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *toy("toy_gan", *OFTEN, "train.steps=20", "run_dir=run")).status == 0
    tags = set(events("run").Tags()["scalars"])
    assert {"loss/critic/total", "loss/critic/penalty", "loss/generator/total"} <= tags
    assert {"grad_norm/critic", "grad_norm/generator", "lr/critic", "lr/generator"} <= tags


def test_evaluation_and_pictures_leave_training_alone(gentrain: Callable[..., Ended]) -> None:
    """The same weights whether or not a run looks at itself on the way."""
    from gentrain.training import checkpoint

    ends = []
    for every in (1, 1000):
        folder = f"every{every}"
        look = [f"train.{what}_every={every}" for what in ("eval", "sample", "log")]
        done = gentrain("train", *MODELS["vae"], *OFTEN, "train.steps=12", f"run_dir={folder}", *look)
        assert done.status == 0, done.err
        ends.append(checkpoint.load(Path(folder) / "checkpoints/last.pt"))
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name]), name


def test_the_bar_is_quiet_off_a_terminal(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", *MODELS["vae_mlp"], *OFTEN, "train.steps=20")
    assert done.err == ""
    assert "\r" not in done.out
    assert len(done.out.splitlines()) < 20


def test_lines_after_a_step_are_dropped_and_a_torn_one_too(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss/total": 1.0}) for step in (10, 20, 30)]
    file.write_text("\n".join(lines) + '\n{"step": 40, "loss/to')
    assert [line["step"] for line in read_metrics(file)] == [10, 20, 30]
    truncate_metrics(file, 20)
    assert file.read_text() == "\n".join(lines[:2]) + "\n"


def test_lines_of_an_evaluation_that_was_not_done_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [{"step": 10, "eval/nats": 1.0}, {"step": 20, "loss/total": 1.0}]
    more = [{"step": 20, "check/error": 1.0}, {"step": 20, "eval/nats": 1.0}, {"step": 30, "loss/total": 1.0}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines + more))
    truncate_metrics(file, 20, evaluated=False)
    assert read_metrics(file) == lines


def test_progress_is_told_where_no_bar_is_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = {"loss/critic/total": 1.5, "loss/generator/total": 0.25, "loss/critic/penalty": 9.0}
    values |= {"speed/images_per_second": 16.0, "speed/seconds": 2.0}
    tracker = Tracker(tmp_path, PLAN, start=0)
    tracker.progress(1, values)
    assert capfd.readouterr().out == "step 1/3: critic 1.5, generator 0.25, 16 images/s, 00:04 left\n"
    short = Tracker(tmp_path, dataclasses.replace(PLAN, minutes=0.05), start=0)
    short.progress(1, values)
    assert "00:01 left" in capfd.readouterr().out
    quiet = Tracker(tmp_path, dataclasses.replace(PLAN, say_seconds=60), start=0)
    quiet.progress(1, values)
    assert capfd.readouterr().out == ""
    for each in (tracker, short, quiet):
        each.close()


def test_metrics_on_a_full_disk_say_which_file_and_how_to_go_on(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, PLAN, start=0)
    tracker._metrics.close()
    tracker._metrics = open("/dev/full", "a")  # noqa: SIM115
    with pytest.raises(Fault, match=r"cannot write /dev/full: No space left on device; make room, .*resume="):
        tracker.scalars(1, {"loss/total": 1.0})
    tracker.close()


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, PLAN, start=0)
    tracker.scalars(1, {"loss/total": float("nan"), "speed": 2.0})
    tracker.close()
    assert read_metrics(tmp_path / "metrics.jsonl")[0] == {
        "step": 1,
        "images": 32,
        "epoch": 0.5,
        "loss/total": None,
        "speed": 2.0,
    }


def test_a_full_disk_under_tensorboard_warns_once_and_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(tmp_path, PLAN, start=0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracker._writer, "add_scalar", full)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for step in range(3):
            tracker.scalars(step, {"loss/total": 1.0})
    assert len(seen) == 1
    assert "TensorBoard cannot write" in str(seen[0].message)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3
    tracker.close()
