"""The command line on recordings: train, sample, complete, eval, and what a user may get wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Ended, quietly_in
from scipy.io import wavfile
from waves import tone, wav, written

import gentrain as package
from gentrain.cli import main
from gentrain.commands import complete
from gentrain.commands.complete import at_once
from gentrain.commands.reproduce import estimator
from gentrain.contracts import DataSpec
from gentrain.models.autoregressive.wavenet import WaveNet

SMALL = ["model=wavenet", "model.channels=4", "model.skip=8", "model.layers=3", "model.stacks=1"]
DATA = ["dataset=audio", "dataset.root=r", "dataset.length=300"]


@pytest.fixture(scope="session")
def trained_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings of two classes, and a run on them."""
    place = tmp_path_factory.mktemp("sounds")
    files = {
        f"r/{w}/{i}.wav": wav(tone(900, hz * (1 + i / 9)))
        for w, hz in (("low", 200), ("high", 900))
        for i in range(5)
    }
    written(place, files)
    with quietly_in(place):
        data = [*DATA, "dataset.context=16"]
        steps = ["train.steps=6", "train.batch_size=4", "train.sample_every=6", "train.sample_count=2"]
        assert main(["train", *SMALL, "model.label_by=bias", *data, *steps, "run_dir=run"]) == 0
    return place


def size_of(picture: str) -> tuple[int, int]:
    """(width, height)."""
    with Image.open(picture) as opened:
        return opened.size


@pytest.fixture
def sounds(trained_sounds: Path, workplace: Path) -> Path:
    shutil.copytree(trained_sounds, workplace, symlinks=True, dirs_exist_ok=True)
    return workplace


def test_a_run_keeps_sounds_to_hear_and_to_look_at(sounds: Path) -> None:
    rate, samples = wavfile.read("run/samples/step_00000006.wav")
    assert (rate, len(samples)) == (8000, 300 + 2000 + 300)
    assert size_of("run/samples/step_00000006.png") == (2 * 484 + 4, 60 + 128 + 8)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("run")
    events.Reload()
    assert events.Tags()["audio"] == ["samples"]


def test_sounds_are_drawn_of_any_length(sounds: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("sample", "ckpt=run", "n=2", "seconds=0.1", "label=high", "out=v.wav")
    assert done.status == 0, done.err
    assert "wrote   v.wav (2 sounds, step 6)" in done.out
    assert len(wavfile.read("v.wav")[1]) == 800 + 2000 + 800
    assert Path("v.png").is_file()
    assert gentrain("sample", "ckpt=run", "n=2").status == 0
    assert len(wavfile.read("run/samples.wav")[1]) == 300 + 2000 + 300
    assert gentrain("sample", "ckpt=run", "n=3", "out=v.npz").status == 0
    assert np.load("v.npz")["images"].shape == (3, 1, 1, 316)


def test_a_recording_is_gone_on_with(sounds: Path, gentrain: Callable[..., Ended]) -> None:
    Path("greeting.wav").write_bytes(wav(tone(500)))
    done = gentrain("complete", "ckpt=run", "sounds=greeting.wav", "seconds=0.05", "n=3", "label=low")
    assert done.status == 0, done.err
    assert "1 recording, gone on with for 0.05 s in 3 ways" in done.out
    samples = wavfile.read("run/completions.wav")[1] / 32767
    assert len(samples) == 3 * 900 + 2 * 2000
    for way in range(3):
        begun = samples[way * 2900 : way * 2900 + 500]
        np.testing.assert_allclose(begun, tone(500), atol=0.02)
    done = gentrain("complete", "ckpt=run", "images=0,1", "known=left", "n=2", "out=c.png")
    assert done.status == 0, done.err
    assert size_of("c.png") == (3 * 484 + 4, 2 * 192 + 4)


def test_recordings_of_a_folder_are_gone_on_with_together(
    sounds: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    plain = WaveNet.complete

    def counted(self: WaveNet, x: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        calls.append(len(x))
        return plain(self, x, *args, **settings)

    monkeypatch.setattr(WaveNet, "complete", counted)
    lengths = {"f/a.wav": 500, "f/b.wav": 200, "f/c.wav": 350}
    written(Path(), {name: wav(tone(n, 300)) for name, n in lengths.items()})
    done = gentrain("complete", "ckpt=run", "sounds=f", "seconds=0.05", "n=2", "out=f.wav")
    assert done.status == 0, done.err
    assert calls == [6]
    assert "3 recordings, gone on with for 0.05 s in 2 ways" in done.out
    samples = wavfile.read("f.wav")[1] / 32767
    each = 500 + 400 + 2000  # all as long as the longest
    assert len(samples) == 6 * each - 2000
    for i, n in enumerate(lengths.values()):
        for way in range(2):
            one = samples[(2 * i + way) * each :][:900]
            np.testing.assert_allclose(one[:n], tone(n, 300), atol=0.02)
            assert np.abs(one[n : n + 400]).max() > 0.02, "gone on with"
            assert np.abs(one[n + 400 :]).max(initial=0) < 0.01, "then silent"


def test_which_sounds_go_together() -> None:
    assert at_once([5, 3, 5, 4], 2, 7) == [[1], [3], [0, 2]]
    most = complete._AT_ONCE
    assert at_once([most // 4 - 9] * 5, 2, 9) == [[0, 1], [2, 3], [4]]
    assert at_once([most // 4 - 9] * 3, 2, 10) == [[0], [1], [2]]
    assert at_once([most] * 2, 2, 1) == [[0], [1]], "one alone, however long"


def test_what_lies_further_back_than_the_field_decides_nothing() -> None:
    """The probabilities of what follows a sound are those of what follows its end."""
    spec = DataSpec((1, 1, 60), sample_rate=8000, context=20)
    settings = ["model.channels=3", "model.skip=5", "model.layers=3", "model.stacks=2"]
    model: Any = package.build(["model=wavenet", *settings], spec).double()
    x = torch.randn(1, 1, 1, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    model.params(x)[..., -1].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 0, 0] != 0
    assert model.field < 20
    assert seen.nonzero().flatten().tolist()[0] == 59 - model.field, "no further back, and so far"


def test_bits_are_per_sample(sounds: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("eval", "ckpt=run")
    assert done.status == 0, done.err
    assert "nats per crop, exact after 16 samples given labels" in done.out
    assert "bits/sample" in done.out
    assert "256 levels of the mu-law, 8,000 Hz" in done.out
    figures = json.loads(Path("run/eval_test.json").read_text())
    of = f"audio test, {figures['images']} crops, 256 levels of the mu-law, 8,000 Hz"
    assert estimator("test", figures) == f"exact after 16 samples given labels, {of}"


MISTAKES = {
    "seconds=0": (["sample", "ckpt=run", "seconds=0"], "seconds: expected above 0"),
    "seconds of images": (["sample", "ckpt=mlp", "seconds=1"], "seconds=1.0: vae_mlp makes images"),
    "sounds of images": (["complete", "ckpt=pix", "sounds=r"], "sounds=r: pixelcnn makes images"),
    "no such file": (["complete", "ckpt=run", "sounds=no.wav"], "sounds=no.wav: there is no such file"),
    "not a recording": (["complete", "ckpt=run", "sounds=bad.wav"], "bad.wav cannot be read: it is no WAV"),
    "another rate": (["complete", "ckpt=run", "sounds=fast.wav"], "16,000 samples a second, the model 8,000"),
    "an empty folder": (["complete", "ckpt=run", "sounds=none"], "sounds=none holds 0 recordings"),
    "seconds of nothing": (["complete", "ckpt=run", "seconds=1"], "name a recording to go on with: sounds="),
    "sounds and numbers": (
        ["complete", "ckpt=run", "sounds=r", "images=0"],
        "sounds= and images= both say what to go on with",
    ),
    "a picture": (
        ["complete", "ckpt=run", "images=no.png"],
        "wavenet makes sounds; give numbers of",
    ),
    "no classes": (
        ["train", *SMALL, "model.label_by=bias", "dataset=audio", "dataset.root=flat", "dataset.length=300"],
        "its recordings have neither labels nor attributes nor captions to condition on; take a data set "
        "that has (for your own recordings: one folder per class), or set model.label_by=none",
    ),
    "a model of images": (
        ["train", "model=vae", *DATA, "dataset.context=0", "train.batch_size=4"],
        "that strided convolutions take is 8x8, and recordings have one height: take model=wavenet",
    ),
    "too many at once": (
        ["train", *SMALL, *DATA, "dataset.context=16", "train.batch_size=9999"],
        "training crops of audio",
    ),
    "another ending": (["sample", "ckpt=run", "out=a.mp3"], "out=a.mp3: expected a name that ends in .wav"),
    "a short context": (["train", *SMALL, *DATA, "dataset.context=4"], "set dataset.context=9"),
    "a context for another family": (
        ["train", "model=vae_mlp", *DATA, "train.batch_size=4"],
        "dataset.context=2048: VAE makes no use of samples that are given; set dataset.context=0",
    ),
    "no root": (["train", "model=wavenet", "dataset=audio"], "asterisk-core-sounds-en-wav"),
    "a long crop": (
        ["train", *SMALL, *DATA, "dataset.length=901"],
        "dataset.length=901 is longer than every",
    ),
}


@pytest.mark.parametrize("why", MISTAKES)
def test_a_mistake_gets_one_line_and_writes_nothing(
    why: str, sounds: Path, gentrain: Callable[..., Ended]
) -> None:
    arguments, reason = MISTAKES[why]
    small = ["dataset=digits", "train.steps=1", "train.batch_size=8", "train.sample_count=1"]
    if "ckpt=mlp" in arguments:
        assert gentrain("train", "model=vae_mlp", "model.hidden=[4]", *small, "run_dir=mlp").status == 0
    if "ckpt=pix" in arguments:
        assert gentrain("train", "model=pixelcnn", "model.depth=1", *small, "run_dir=pix").status == 0
    Path("bad.wav").write_bytes(b"no wav at all")
    Path("fast.wav").write_bytes(wav(tone(500), 16000))
    Path("none").mkdir()
    written(Path(), {f"flat/{i}.wav": wav(tone(900, 300 + i)) for i in range(4)})
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    done = gentrain(*arguments)
    assert done.status == 2
    assert reason in done.one_line()
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before
