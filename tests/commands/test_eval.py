"""`gentrain eval`: its figures, what it keeps of them, the data that it reads."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from metrics_of import UNLABELLED_VAE, fit
from PIL import Image
from running import Ended, toy

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.commands.measures.classifier import collapse, histogram
from gentrain.contracts import Samples
from gentrain.metrics import classifier
from gentrain.training import checkpoint

#: C*H*W ln 2 of digits: nats per image in one bit per dimension.
NATS = 64 * math.log(2)


def evaluated(gentrain: Callable[..., Ended], *typed: str) -> dict[str, Any]:
    """What was printed, held against what was written."""
    done = gentrain("eval", *typed)
    assert done.status == 0, done.err
    (file,) = re.findall(r"^wrote +(.+?)(?:, unchanged)?$", done.out, re.MULTILINE)
    written = json.loads(Path(file).read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    pattern = r"nll +(\S+)(?: \+- (\S+))? nats per image, (\S.*), (\w+) (\w+) \((\d+) images\), "
    pattern += r"(\d+) levels, binarize=(\w+)\n +(\S+)(?: \+- (\S+))? bits/dim"
    (found,) = re.findall(pattern, done.out)
    assert float(found[0]) == pytest.approx(written["nats"], abs=1e-4)
    assert float(found[8]) == pytest.approx(written["bits_per_dim"], abs=1e-5)
    assert (found[1] == "") == (found[9] == "") == (written["images"] == 1)
    if written["images"] > 1:
        assert float(found[1]) == pytest.approx(written["nats_stderr"], abs=1e-4)
        assert float(found[9]) == pytest.approx(written["bits_per_dim_stderr"], abs=1e-5)
    keys = ("kind", "dataset", "split", "images", "levels", "binarize")
    assert found[2:8] == tuple(str(written[key]) for key in keys)
    return written


def digits(split: str) -> torch.Tensor:
    """uint8 [N, 1, 8, 8], the images as the data set serves them."""
    data = build_source(compose_train([]).dataset).load()
    return torch.from_numpy(np.array(getattr(data, split).images))


def by_hand(model: Any, x: torch.Tensor, batch_size: int, samples: int | None, seed: int) -> torch.Tensor:
    """-log p of every image, [N] in nats."""
    torch.manual_seed(seed)
    return torch.cat([-model.log_likelihood(part, samples=samples)[0] for part in x.split(batch_size)])


def test_the_figures_are_those_of_the_whole_test_set(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    """297 images in batches of 64: the last, partial batch counts like the others."""
    written = evaluated(gentrain, "batch_size=64", "samples=3", "seed=5")
    nats = by_hand(package.load(trained.conv), digits("test"), 64, 3, 5).double()
    assert len(nats) == 297
    stderr = float(nats.std() / math.sqrt(297))
    assert written == {
        "dataset": "digits",
        "split": "test",
        "levels": 17,
        "binarize": "none",
        "values": "17 levels, binarize=none",
        "each": "image",
        "step": 20,
        "checkpoint": "last.pt",
        "seed": 5,
        "gentrain": package.__version__,
        "kind": "IWAE-3",
        "images": 297,
        "nats": pytest.approx(float(nats.mean()), abs=1e-6),
        "nats_stderr": pytest.approx(stderr, abs=1e-6),
        "bits_per_dim": pytest.approx(float(nats.mean()) / NATS, abs=1e-8),
        "bits_per_dim_stderr": pytest.approx(stderr / NATS, abs=1e-8),
    }
    assert (trained.conv / "eval_test.json").is_file()


def test_another_batch_size_gives_the_same_figure_but_for_noise(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    one = evaluated(gentrain, "batch_size=1000", "samples=5")
    other = evaluated(gentrain, "batch_size=31", "samples=5")
    assert one["images"] == other["images"] == 297
    assert one["nats"] != other["nats"]
    assert one["nats"] == pytest.approx(other["nats"], abs=0.5)


@pytest.mark.parametrize(("split", "count"), [("validation", 150), ("train", 1350)])
def test_the_other_splits(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, split: str, count: int
) -> None:
    written = evaluated(gentrain, f"split={split}", "samples=null", "batch_size=500")
    assert (written["images"], written["kind"]) == (count, "ELBO")
    nats = by_hand(package.load(trained.conv), digits(split), 500, None, 0)
    assert written["nats"] == pytest.approx(float(nats.mean()), abs=1e-4)
    assert (trained.conv / f"eval_{split}.json").is_file()
    assert not (trained.conv / "eval_test.json").exists()


def test_a_limit_takes_the_first_images(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    model, x = package.load(trained.conv), digits("test")
    for limit in (1, 101):
        written = evaluated(gentrain, f"limit={limit}", "samples=2")
        assert written["images"] == limit
        nats = by_hand(model, x[:limit], 100, 2, 0)
        assert written["nats"] == pytest.approx(float(nats.mean()), abs=1e-4)
        assert (written["nats_stderr"] is None) == (limit == 1)
    assert evaluated(gentrain, "limit=5000", "samples=1")["images"] == 297


def test_more_samples_tighten_the_bound(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """E[IWAE-1] <= E[IWAE-5] <= E[IWAE-30]: by the mean over seeds, apart by much more than its noise."""
    nats = {
        k: [evaluated(gentrain, f"samples={k}", f"seed={seed}", "limit=80")["nats"] for seed in range(3)]
        for k in (1, 5, 30)
    }
    assert min(nats[1]) > max(nats[5])
    assert min(nats[5]) > max(nats[30])
    assert len(set(nats[5])) == 3, "the seed counts"


def test_no_validation_images(gentrain: Callable[..., Ended], workplace: Path) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8"]
    assert gentrain("train", *settings, "dataset.validation=0").status == 0
    ended = gentrain("eval", "split=validation")
    assert ended.status == 2
    assert "dataset.validation=0" in ended.one_line()
    assert "split=test" in ended.one_line()


def test_the_kind_is_the_models_own(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *toy("toy_flow", "train.steps=2")).status == 0
    written = evaluated(gentrain, "trust=[toys]", "limit=20")
    assert written["kind"] == "dequantised bound"


@pytest.fixture
def pictures(workplace: Path) -> Path:
    """A folder of 40 grey images of 9x9 pixels."""
    draw = np.random.default_rng(0)
    folder = workplace / "pictures"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(draw.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return folder


FOLDER = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8", "dataset=folder"]


def test_data_that_were_moved(gentrain: Callable[..., Ended], pictures: Path) -> None:
    trained = gentrain("train", *FOLDER, "dataset.root=pictures", "run_dir=run")
    assert trained.status == 0, trained.err
    before = evaluated(gentrain, "samples=4")
    pictures.rename("else where")
    missing = gentrain("eval", "samples=4")
    assert missing.status == 2
    assert f"dataset.root={pictures.absolute()} does not exist" in missing.one_line()
    assert evaluated(gentrain, "samples=4", "dataset.root=else where") == before
    assert evaluated(gentrain, "samples=4", "dataset.root=else where", "dataset.cache=own cache") == before
    assert Path("own cache").is_dir()


def test_data_of_another_shape(gentrain: Callable[..., Ended], pictures: Path) -> None:
    assert gentrain("train", *FOLDER, "dataset.root=pictures", "run_dir=run").status == 0
    other = Path("larger")
    other.mkdir()
    for file in pictures.iterdir():
        with Image.open(file) as image:
            image.resize((12, 10)).save(other / file.name)
    ended = gentrain("eval", "dataset.root=larger")
    assert ended.status == 2
    assert "[1, 10, 12] with 256 levels" in ended.one_line()
    assert "[1, 9, 9] with 256" in ended.one_line()
    assert "dataset.root" in ended.one_line()
    assert not Path("run/eval_test.json").exists()


def test_a_quick_look_does_not_overwrite_the_figures(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    evaluated(gentrain, "samples=1")
    whole = (trained.conv / "eval_test.json").read_text()
    assert gentrain("eval", "samples=1", "limit=10").status == 0
    assert (trained.conv / "eval_test.json").read_text() == whole


def test_data_of_other_levels(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    config = state["config"].replace("binarize: none", "binarize: fixed")
    assert config != state["config"]
    checkpoint.save({**state, "config": config}, Path("mixed.pt"))
    ended = gentrain("eval", "ckpt=mixed.pt")
    assert ended.status == 2
    assert "[1, 8, 8] with 2 levels" in ended.one_line()
    assert "[1, 8, 8] with 17" in ended.one_line()


def test_weights_that_went_bad_give_no_figure(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    next(iter(state["model"].values())).fill_(float("nan"))
    checkpoint.save(state, trained.mlp / "checkpoints" / "last.pt")
    ended = gentrain("eval", "ckpt=mlp", "samples=1")
    assert ended.status == 1
    assert "log-likelihood of 297 of 297 images is not finite" in ended.one_line()
    assert not (trained.mlp / "eval_test.json").exists()


def test_a_run_folder_that_cannot_be_written(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are what was asked for; they are printed all the same."""

    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    done = gentrain("eval", "samples=1", "limit=10")
    assert done.status == 0, done.err
    assert "bits/dim" in done.out
    place = trained.conv / "eval_test_first_10.json"
    assert f"note    the figures are not kept: cannot write {place}: Read-only file system" in done.out
    assert not place.exists()
    assert not list(trained.conv.glob(".eval*"))


def test_a_checkpoint_on_its_own_is_measured_without_a_file(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    (trained.mlp / "checkpoints" / "last.pt").rename("alone.pt")
    before = sorted(Path().rglob("*"))
    done = gentrain("eval", "ckpt=alone.pt", "samples=1", "limit=10")
    assert "bits/dim" in done.out
    assert sorted(Path().rglob("*")) == before
    assert follow(done).status == 0


def test_a_full_disk_is_no_mistake(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ended = gentrain("eval", "samples=1", "limit=10")
    assert ended.status == 1
    assert "bits/dim" in ended.out
    place = trained.conv / "eval_test_first_10.json"
    assert ended.one_line().endswith(f"cannot write {place}: No space left on device; make room there")


def test_other_figures_leave_the_first_where_they_are(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    """The same once more changes nothing, another seed goes beside them."""

    def kept() -> dict[str, str]:
        return {file.name: file.read_text() for file in trained.conv.glob("eval*")}

    evaluated(gentrain, "samples=1", "limit=20")
    first = kept()
    assert list(first) == ["eval_test_first_20.json"]
    again = gentrain("eval", "samples=1", "limit=20")
    assert f"wrote   {trained.conv / 'eval_test_first_20.json'}, unchanged\n" in again.out
    assert kept() == first
    other = gentrain("eval", "samples=1", "limit=20", "seed=1")
    assert f"wrote   {trained.conv / 'eval_test_first_20-2.json'}\n" in other.out
    assert kept().items() > first.items()
    assert len(kept()) == 2
    assert "20-2.json, unchanged" in gentrain("eval", "samples=1", "limit=20", "seed=1").out
    assert len(kept()) == 2


@pytest.mark.parametrize("binarize", ["dynamic", "fixed"])
def test_likelihoods_that_do_not_compare_print_differently(
    gentrain: Callable[..., Ended], workplace: Path, binarize: str
) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", f"dataset.binarize={binarize}"]
    trained = gentrain("train", *settings, "run_dir=run", "dataset.validation=20")
    said = f"(ELBO, 2 levels, binarize={binarize})"
    step, done = (line for line in trained.out.splitlines() if "; validation nats" in line or "2/2:" in line)
    assert step.startswith("step 2/2: validation nats ")
    assert done.startswith("done    step 2 in ")
    assert step.endswith(said)
    assert done.endswith(said)
    metrics = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    (keys,) = [line.keys() for line in metrics if "eval/nats" in line]
    assert set(keys) == {"step", "images", "epoch", "eval/nats", "eval/nats_stderr", "eval/bits_per_dim"}
    written = evaluated(gentrain, "samples=2", "limit=9")
    assert {key: written[key] for key in ("kind", "dataset", "levels", "binarize")} == {
        "kind": "IWAE-2",
        "dataset": "digits",
        "levels": 2,
        "binarize": binarize,
    }
    done = gentrain("eval", "metrics=[reconstruction]", "limit=9")
    assert f"digits test (9 images), 2 levels, binarize={binarize}" in done.out


def test_of_a_single_image_there_is_no_standard_error(
    gentrain: Callable[..., Ended], workplace: Path
) -> None:
    assert gentrain("train", "model=vae_mlp", "model.hidden=[8]", "train.steps=2").status == 0
    done = gentrain("eval", "limit=1", "samples=1", "metrics=[likelihood,reconstruction]")
    assert done.status == 0
    assert "nan" not in done.out
    assert " nats per image" in done.out


# Which metrics


def test_a_model_without_likelihood(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *toy("toy_gan", "train.steps=2")).status == 0
    ended = gentrain("eval", "trust=[toys]")
    assert ended.status == 2
    assert ended.one_line().endswith(f"eval: toy_gan has no likelihood{fit(Samples)}")
    ended = gentrain("eval", "trust=[toys]", "metrics=[likelihood]")
    assert ended.status == 2
    assert f"metrics=[likelihood]: toy_gan has no likelihood{fit(Samples)}" in ended.one_line()
    assert not list(Path().rglob("eval*"))


def test_the_reason_that_a_model_gives(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toys

    monkeypatch.setattr(toys.ToyGAN, "lacks", {"eval": "it is implicit"})
    assert gentrain("train", *toy("toy_gan", "train.steps=2")).status == 0
    assert "toy_gan has no likelihood (it is implicit); try" in gentrain("eval", "trust=[toys]").one_line()


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("metrics=[likelyhood]", ["no metric 'likelyhood'", "did you mean likelihood?"]),
        ("metrics=[classifier,xyz]", ["no metric 'xyz'", "classifier, codes, crossing, frechet"]),
        ("metrics=classifier", ["expected a list, metrics=[classifier]"]),
        ("metrics='likelihood,classifier'", ["expected a list, metrics=[likelihood,classifier]"]),
        ("metrics=(classifier)", ["metrics"]),
        ("metrics=3", ["expected a list"]),
        ("metrics={a: 1}", ["expected a list"]),
        ("metrics=[]", ["expected at least one", "metrics=[likelihood,reconstruction,classifier,"]),
        ("metrics=[[classifier]]", ["no metric"]),
        ("metric=[classifier]", ["metrics"]),
        ("n=0", ["n: expected at least 1"]),
    ],
)
def test_a_mistyped_metric(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, typed: str, parts: list[str]
) -> None:
    ended = gentrain("eval", typed)
    assert ended.status == 2, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert not list(Path().rglob("eval_*"))


# The classifier


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A classifier that takes a moment to train, in a cache of its own, which is returned."""
    monkeypatch.setattr(classifier, "RECIPE", classifier.Recipe(steps=60, epochs=1))
    monkeypatch.setenv("GENTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def classified(gentrain: Callable[..., Ended], cache: Path, *typed: str) -> dict[str, Any]:
    """What was printed, held against what was written."""
    done = gentrain("eval", "metrics=[classifier]", f"dataset.cache={cache}", *typed)
    assert done.status == 0, done.err
    (file,) = re.findall(r"^wrote +(.+?)(?:, unchanged)?$", done.out, re.MULTILINE)
    written = json.loads(Path(file).read_text(), parse_constant=pytest.fail)
    pattern = (
        r"classes (\S+) \+- (\S+) nats .* at most 2.3026, ([\d,]+) samples\n"
        r" +(\S+) \+- (\S+) mean confidence \((\S+) on the test images\)\n +(.*)\n"
        r"judge +classifier (\w{12}): (\S+)% of 297 test images right, trained on the 1,350 training images"
    )
    (found,) = re.findall(pattern, done.out)
    keys = ("entropy", "entropy_stderr", "images", "confidence", "confidence_stderr", "classifier_confidence")
    for text, key in zip(found, keys, strict=False):
        if written[key] is not None:
            assert float(text.replace(",", "")) == pytest.approx(written[key], abs=1e-4), key
    assert found[6] == "  ".join(f"{i} {n:,}" for i, n in enumerate(written["counts"]))
    assert found[7] == written["classifier"]
    assert float(found[8]) == pytest.approx(100 * written["classifier_accuracy"], abs=0.01)
    assert ("weak evidence" in done.out) == (written["classifier_accuracy"] < 0.99)
    return written


def test_a_classifier_looks_at_the_samples(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, quick: Path
) -> None:
    """The figures are those of the samples of this seed and of the file with this hash."""
    written = classified(gentrain, quick, "n=600", "seed=5")
    (file,) = quick.glob("classifier-*.pt")
    assert hashlib.sha256(file.read_bytes()).hexdigest()[:12] == written["classifier"]
    assert file.stem.endswith(written["classifier"])
    data = build_source(compose_train([]).dataset).load()
    judge = classifier.judge_from_bytes(file.read_bytes(), data.spec, classifier.RECIPE, torch.device("cpu"))
    model: Any = package.load(trained.conv)
    torch.manual_seed(5)
    samples = [model.sample(500), model.sample(100)]
    expected = classifier.classes_of(*classifier.predict(judge.net, samples), 10)
    assert written["counts"] == list(expected.counts)
    assert written["entropy"] == pytest.approx(expected.entropy)
    assert written["confidence"] == pytest.approx(expected.confidence)
    assert sum(written["counts"]) == written["images"] == 600
    assert written["labels"] == list("0123456789")
    assert written["max_entropy"] == pytest.approx(math.log(10))
    assert (trained.conv / "eval_classifier_600.json").is_file()
    assert judge.accuracy >= 0.9


def test_it_is_trained_once_and_changes_nothing(
    gentrain: Callable[..., Ended],
    trained: SimpleNamespace,
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = classified(gentrain, quick, "n=50")
    monkeypatch.setattr(classifier, "train_classifier", lambda *_: pytest.fail("it was trained again"))
    assert classified(gentrain, quick, "n=50") == first
    assert classified(gentrain, quick, "n=50", "ckpt=mlp", "seed=1") != first
    both = gentrain("eval", "metrics=[classifier,likelihood]", f"dataset.cache={quick}", "n=50", "samples=2")
    alone = gentrain("eval", "samples=2")
    nll = re.findall(r"nll.*", alone.out)
    assert nll
    assert nll == re.findall(r"nll.*", both.out), "each metric sees the noise that it would see alone"
    assert f"{first['entropy']:.4f}" in both.out
    twice = gentrain("eval", "metrics=[likelihood,likelihood]", "samples=2")
    assert re.findall(r"nll.*", twice.out) == nll


def test_a_damaged_classifier_is_trained_again(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, quick: Path
) -> None:
    first = classified(gentrain, quick, "n=50")
    (file,) = quick.glob("classifier-*.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = gentrain("eval", "metrics=[classifier]", f"dataset.cache={quick}", "n=50")
    assert f"note    {file} is damaged and is made again" in done.out
    assert classified(gentrain, quick, "n=50") == first, "the same classifier, to the bit"


def test_binarised_data_have_a_classifier_of_their_own(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, quick: Path
) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "dataset.binarize=dynamic"]
    assert gentrain("train", *settings, "run_dir=binary").status == 0
    first, other = (classified(gentrain, quick, "n=50", f"ckpt={run}") for run in ("mlp", "binary"))
    assert first["classifier"] != other["classifier"]
    assert len(list(quick.glob("classifier-*.pt"))) == 2


def test_a_model_that_draws_one_picture_has_no_entropy(
    gentrain: Callable[..., Ended], workplace: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toys

    assert gentrain("train", *toy("toy_gan", "train.steps=2")).status == 0
    picture = digits("test")[:1]
    monkeypatch.setattr(toys.ToyGAN, "sample", lambda self, n, *_, **__: picture.expand(n, -1, -1, -1))
    written = classified(gentrain, quick, "trust=[toys]", "n=70")
    assert (written["entropy"], written["entropy_stderr"]) == (0, 0)
    assert sorted(written["counts"]) == [0] * 9 + [70]
    assert written["confidence_stderr"] == pytest.approx(0, abs=1e-6)
    done = gentrain("eval", "metrics=[classifier]", f"dataset.cache={quick}", "trust=[toys]", "n=100")
    label = written["labels"][written["counts"].index(70)]
    assert (
        f"note    all 100 samples look like one label, {label}: the samples have collapsed onto it, or are "
        "all one picture; look at them: gentrain sample trust=toys ckpt="
    ) in done.out
    assert classified(gentrain, quick, "trust=[toys]", "n=1")["confidence_stderr"] is None


def test_a_poor_classifier_says_so(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "RECIPE", classifier.Recipe(steps=2, epochs=0.01))
    assert classified(gentrain, quick, "n=20")["classifier_accuracy"] < 0.8


def test_unlabelled_data(gentrain: Callable[..., Ended], pictures: Path) -> None:
    assert gentrain("train", *FOLDER, "dataset.root=pictures", "run_dir=run").status == 0
    ended = gentrain("eval", "metrics=[classifier]")
    assert ended.status == 2
    assert f"vae_mlp was trained on data without labels{UNLABELLED_VAE}" in ended.one_line()


@pytest.mark.parametrize(
    ("counts", "present", "parts"),
    [
        ([0, 1000, 0, 0], 4, ["all 1,000 samples look like one label, b:", "one picture"]),
        ([9, 991, 0, 0], 4, ["991 of the 1,000 samples look like one label, b:"]),
        ([500, 500, 0, 0], 4, ["over 2.0 labels, the training images over 4.0:", "onto few"]),
        ([400, 300, 300, 0], 4, None),
        ([250, 250, 250, 250], 4, None),
        ([0, 39, 0, 0], 4, None),  # that may be chance
        ([990, 10, 0, 0], 1.06, None),  # so are the training images
    ],
)
def test_few_labels_among_many_samples_are_explained(
    counts: list[int], present: float, parts: list[str] | None
) -> None:
    said = collapse("abcd", counts, math.log(present))
    assert (said is None) == (parts is None)
    assert all(part in str(said) for part in parts or [])


def test_many_labels_are_told_by_their_extremes() -> None:
    names = [f"n{i}" for i in range(30)]
    assert histogram(names[:2], [1000, 2]) == "n0 1,000  n1 2"
    counts = [3] * 30
    counts[4], counts[7], counts[9] = 0, 0, 8
    assert histogram(names, counts) == "30 labels, 2 of them never; from 0 (n4) to 8 (n9)"
