"""Data that changed between training and use are never silently other data."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from running import Ended

from gentrain.api import load_checkpoint
from gentrain.building import build_source
from gentrain.commands.trained import open_data
from gentrain.data.draws import draws_by_name
from gentrain.data.identity import Identity, changed
from gentrain.schemas import EvalConfig
from gentrain.training import checkpoint

SMALL = ["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=2"]
CONDITIONAL = ["model=cvae", "model.channels=[4]", "model.latent_dim=2", "dataset.image_size=8"]
QUICK = ["train.batch_size=8", "train.steps=2", "train.sample_count=1", "run_dir=run"]


def album(root: str, count: int, *classes: str, first: int = 0) -> None:
    """Images of 4x4 pixels, one value each, in class folders in turn or all at the top."""
    for i in range(first, first + count):
        folder = Path(root, classes[i % len(classes)]) if classes else Path(root)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"im{i:05d}.png")


def one_more(root: str) -> None:
    """An image whose name comes before all others, so that their numbers change."""
    pixels = np.random.default_rng(1000).integers(0, 256, (4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(Path(root) / "aaa.png")


@pytest.fixture
def train(gentrain: Callable[..., Ended]) -> Callable[..., None]:
    def train(*more: str, model: list[str] = SMALL) -> None:
        ended = gentrain("train", *model, *QUICK, "dataset=folder", "dataset.root=album", *more)
        assert ended.status == 0, ended.err

    return train


def figures() -> dict[str, object]:
    files = sorted(Path("run").glob("eval_test*.json"), key=lambda f: f.stat().st_mtime_ns)
    return json.loads(files[-1].read_text())


# How the parts are drawn


@given(st.sets(st.text(min_size=1), min_size=1), st.sets(st.text()), st.floats(0, 1), st.integers(-9, 9))
def test_what_is_drawn_by_name_stays_when_names_are_added(
    names: set[str], more: set[str], fraction: float, seed: int
) -> None:
    def drawn(of: set[str]) -> set[str]:
        listed = sorted(of)
        chosen = draws_by_name(listed, "test", seed) < fraction
        return {name for name, yes in zip(listed, chosen, strict=True) if yes}

    assert drawn(names | more) & names == drawn(names)


def test_draws_by_name_are_uniform_and_of_their_purpose() -> None:
    names = [f"{i}.png" for i in range(10_000)]
    draws = draws_by_name(names, "test", 0)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] - 1000).max() < 150
    other = draws_by_name(names, "validation", 0)
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.05
    # As macOS and Linux spell one name.
    assert draws_by_name(["e\u0301"], 0) == draws_by_name(["\u00e9"], 0)
    assert draws_by_name(["caf\udce9"], 0).shape == (1,)  # a name that is no UTF-8


def parts(**settings: object) -> dict[str, set[bytes]]:
    """The images of each part of `album`, as the command line's defaults draw them."""
    from gentrain.api import compose_train

    typed = [f"dataset.{key}={value}" for key, value in settings.items()]
    node = compose_train(["dataset=folder", "dataset.root=album", *typed]).dataset
    data = build_source(node).load()
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: {x.tobytes() for x in split.images} for name, split in splits.items() if split}


@pytest.mark.parametrize("classes", [(), ("cat", "dog")])
def test_images_stay_in_their_part(workplace: Path, classes: tuple[str, ...]) -> None:
    album("album", 60, *classes)
    before = parts()
    assert all(len(part) > 1 for part in before.values())
    album("album", 30, *classes, first=60)
    after = parts()
    assert all(before[name] <= after[name] for name in before)
    if classes:
        os.rename("album/cat", "album/zebra")
        assert parts() == after
    # By count, as checkpoints of before have it, they do not.
    by_count = parts(split_rule=1)
    assert len(by_count["test"]) == 9
    one_more("album/dog" if classes else "album")
    assert parts(split_rule=1)["test"] & by_count["train"]


def test_at_least_one_image_in_each_part(workplace: Path) -> None:
    for count in (3, 4, 5):
        album("album", count)
        assert all(parts(test_fraction=0.001, validation=0.001).values())
    assert parts(test_fraction=0.999, validation=0)["train"]
    # All of one name, below their classes.
    for i, kind in enumerate("abc"):
        album("same", 1, kind, first=i)
        os.rename(f"same/{kind}/im0000{i}.png", f"same/{kind}/x.png")
    shutil.rmtree("album")
    os.rename("same", "album")
    assert [len(part) for part in parts(validation=0).values()] == [2, 1]


def test_without_a_rule_the_draw_is_by_count(workplace: Path) -> None:
    from gentrain.api import compose_train

    album("album", 20)
    node = compose_train(["dataset=folder", "dataset.root=album"]).dataset
    del node["split_rule"]  # as in the config of an older checkpoint
    assert len(build_source(node).load().test) == 2
    by_count = compose_train(["dataset=folder", "dataset.root=album", "dataset.split_rule=1"]).dataset
    assert (build_source(by_count).load().test.images == build_source(node).load().test.images).all()


# What a checkpoint knows of its data


def test_images_added_are_said(gentrain: Callable[..., Ended], train: Callable[..., None]) -> None:
    album("album", 60)
    train()
    assert "warning" not in gentrain("eval", "ckpt=run", "samples=1").err
    assert "difference" not in figures()
    album("album", 1, first=60)
    ended = gentrain("eval", "ckpt=run", "samples=1")
    assert ended.status == 0
    said = "are not those of training: they have 61 images, the run was trained when they had 60"
    assert f"warning: the data of {Path('album').absolute()} {said}" in ended.err
    assert ended.err.count("warning") == 1
    assert figures()["difference"] == "they have 61 images, the run was trained when they had 60"
    assert figures()["held_out_images_trained_on"] == {}
    assert f"data    {Path('album').absolute()}: they have 61 images" in ended.out
    ended = gentrain("train", "resume=run", "train.steps=4")
    assert ended.status == 0
    assert "warning: not bit-exact: the data of" in ended.err
    assert gentrain("eval", "ckpt=run", "samples=1").err == ""  # the run has seen them now


def test_a_test_image_that_was_trained_on_is_refused(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album", 60)
    train("dataset.split_rule=1")
    one_more("album")
    for verb in ("eval", "reconstruct", "encode"):
        ended = gentrain(verb, "ckpt=run", "samples=1") if verb == "eval" else gentrain(verb, "ckpt=run")
        assert ended.status == 2
        assert "test images were trained on" in ended.one_line()
        assert f"take them as they are: dataset.root={Path('album').absolute()}" in ended.one_line()
    assert not list(Path("run").glob("eval*"))
    before = (Path("run") / "checkpoints" / "last.pt").read_bytes()
    ended = gentrain("train", "resume=run", "train.steps=4")
    assert ended.status == 2
    assert "test images of the run would be trained on" in ended.one_line()
    assert (Path("run") / "checkpoints" / "last.pt").read_bytes() == before
    # Named, they are taken, and the figure says what it is of.
    ended = gentrain("eval", "ckpt=run", "samples=1", "dataset.root=album")
    assert ended.status == 0
    assert "test images were trained on" in ended.err
    assert figures()["other_data"] == str(Path("album").absolute())
    assert set(figures()["held_out_images_trained_on"]) >= {"test"}  # type: ignore[call-overload]


def test_an_image_moved_from_train_to_test(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album/train", 20)
    album("album/test", 4, first=20)
    train()
    os.rename("album/train/im00000.png", "album/test/im00000.png")
    os.rename("album/train/im00001.png", "album/test/im00001.png")
    ended = gentrain("eval", "ckpt=run", "samples=1")
    assert ended.status == 2
    assert "of the 6 test images were trained on" in ended.one_line()


def test_another_album_under_the_same_relative_root(
    gentrain: Callable[..., Ended], train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    album("album", 30)
    train()
    first = gentrain("eval", "ckpt=run", "samples=1").out.splitlines()[1]
    album("elsewhere/album", 30, first=100)
    run = Path("run").absolute()
    monkeypatch.chdir("elsewhere")
    ended = gentrain("eval", f"ckpt={run}", "samples=1")  # the run's own, wherever one stands
    assert ended.out.splitlines()[1] == first
    assert ended.err == ""
    shutil.move("../album", "../moved")
    for words in (["eval", f"ckpt={run}", "samples=1"], ["train", f"resume={run}", "train.steps=4"]):
        ended = gentrain(*words)
        assert ended.status == 2  # nobody named this one
        assert f"trained on {Path('../album').resolve()}, which is not there" in ended.one_line()
    assert gentrain("eval", f"ckpt={run}", "samples=1", "dataset.root=../moved").err == ""
    assert gentrain("eval", f"ckpt={run}", "samples=1", "dataset.root=album").status == 0
    shutil.rmtree("album")
    ended = gentrain("eval", f"ckpt={run}", "samples=1")
    assert ended.status == 2
    assert f"{Path('../album').resolve()} does not exist" in ended.one_line()


def test_images_that_are_all_others_are_refused(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album", 30)
    train()
    shutil.rmtree("album")
    album("album", 30, first=100)
    ended = gentrain("eval", "ckpt=run", "samples=1")
    assert ended.status == 2
    assert "holds other data: they have 30 images as in training, but not the same" in ended.one_line()


def test_what_a_run_was_trained_on_adds_up(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    for part, count, first in (("train", 20, 0), ("val", 4, 20), ("test", 4, 24)):
        album(f"album/{part}", count, first=first)
        album(f"other/{part}", count, first=first + 100)
    train()
    shutil.rmtree("other/test")
    shutil.copytree("album/train", "other/test")
    shutil.copy("album/test/im00024.png", "other/train")
    ended = gentrain("train", "resume=run", "train.steps=4", "dataset.root=other")
    assert ended.status == 0
    assert "20 of the 20 test images were trained on; 1 test images of the run would be trained" in ended.err
    for words in (["eval", "ckpt=run", "samples=1"], ["reconstruct", "ckpt=run"], ["train", "resume=run"]):
        ended = gentrain(*words, *(["train.steps=6"] if words[0] == "train" else []))
        assert ended.status == 2
        assert "20 of the 20 test images were trained on" in ended.one_line()
    ended = gentrain("eval", "ckpt=run", "samples=1", "dataset.root=other")
    assert ended.status == 0
    assert "20 of the 20 test images were trained on" in ended.out


def test_a_validation_image_that_was_trained_on(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album/train", 20)
    album("album/val", 4, first=20)
    album("album/test", 4, first=24)
    train()
    os.rename("album/train/im00000.png", "album/val/im00000.png")
    for words in (["eval", "ckpt=run", "split=validation"], ["train", "resume=run", "train.steps=4"]):
        ended = gentrain(*words)
        assert ended.status == 2
        assert "1 of the 5 validation images were trained on" in ended.one_line()


def test_images_that_lie_twice_in_the_data(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    """In training and test from the first: known when the run was begun, and no change."""
    album("album/train", 20)
    album("album/test", 4, first=18)
    train()
    assert gentrain("eval", "ckpt=run", "samples=1").err == ""
    album("album/train", 1, first=30)
    assert gentrain("eval", "ckpt=run", "samples=1").status == 0
    assert gentrain("train", "resume=run", "train.steps=4").status == 0


def test_a_folder_with_a_dollar_in_its_name(
    gentrain: Callable[..., Ended], train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("${a}").mkdir()
    monkeypatch.chdir("${a}")
    album("album", 30)
    train()
    assert gentrain("eval", "ckpt=run", "samples=1").status == 0
    assert gentrain("train", "resume=run", "train.steps=4").status == 0


def test_other_data_that_were_named(gentrain: Callable[..., Ended], train: Callable[..., None]) -> None:
    album("album", 30, "cat", "dog")
    train()
    album("other", 20, "x", "y", "z", first=100)
    ended = gentrain("eval", "ckpt=run", "samples=1", "dataset.root=other")
    assert ended.status == 0
    assert "labels are left out: class x is none of those" in ended.err
    assert figures()["other_data"] == str(Path("other").absolute())
    ended = gentrain("eval", "ckpt=run", "metrics=[probe]", "dataset.root=other")
    assert ended.status == 2
    assert "have no labels" in ended.one_line()
    ended = gentrain("train", "resume=run", "train.steps=4", "dataset.root=other")
    assert ended.status == 0
    assert "not bit-exact: the data of" in ended.err


def idx_files(root: str, seed: int) -> None:
    """Small data in MNIST's format."""
    draw = np.random.default_rng(seed)
    Path(root).mkdir()
    for prefix, count in (("train", 24), ("t10k", 6)):
        images = draw.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        header = struct.pack(">4I", 0x0803, count, 4, 4)
        Path(root, f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = bytes(i % 10 for i in range(count))
        Path(root, f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, count) + labels)


def test_published_data_and_others_in_their_format(gentrain: Callable[..., Ended]) -> None:
    idx_files("one", 0)
    idx_files("two", 1)
    data = ["dataset=mnist", "dataset.root=one", "dataset.verify=false", "dataset.validation=4"]
    assert gentrain("train", *SMALL, *QUICK, *data).status == 0
    path = Path("run/checkpoints/last.pt")
    state = checkpoint.load(path)
    config = state["config"].replace("verify: false", "verify: true")  # as if one had been the real MNIST
    checkpoint.save({**state, "config": config}, path)
    for words in (["eval", "ckpt=run", "samples=1"], ["train", "resume=run", "train.steps=4"]):
        ended = gentrain(*words, "dataset.root=two")
        assert ended.status == 2
        assert "for other data in the same format: dataset.verify=false" in ended.one_line()
        ended = gentrain(*words, "dataset.root=two", "dataset.verify=false")  # as it says
        assert ended.status == 0, ended.err
        assert f"the data of {Path('two').absolute()} are not those of training" in ended.err
    assert figures()["other_data"] == str(Path("two").absolute())


# Labels


def test_labels_go_by_name(gentrain: Callable[..., Ended], train: Callable[..., None]) -> None:
    album("album", 60, "ant", "cat", "dog")
    train(model=CONDITIONAL)
    before = gentrain("eval", "ckpt=run", "samples=1")
    assert before.status == 0
    shutil.rmtree("album/ant")  # by order cat would now be what ant was
    config = OmegaConf.merge(OmegaConf.structured(EvalConfig), {"ckpt": "run"})
    loaded = load_checkpoint("run")
    with pytest.warns(UserWarning, match="not those of training"):
        data = open_data(loaded, config)
    assert data.spec == loaded.model.spec
    assert set(data.test.labels.tolist()) | set(data.train.labels.tolist()) == {1, 2}
    assert gentrain("eval", "ckpt=run", "samples=1").status == 0


@pytest.mark.parametrize("change", ["renamed", "added"])
def test_labels_without_a_match_are_refused(
    gentrain: Callable[..., Ended], train: Callable[..., None], change: str
) -> None:
    album("album", 40, "cat", "dog")
    train(model=CONDITIONAL)
    if change == "renamed":
        os.rename("album/cat", "album/zebra")
    else:
        album("album", 10, "bird", first=40)
    for words in (["eval", "ckpt=run", "samples=1"], ["reconstruct", "ckpt=run"], ["train", "resume=run"]):
        ended = gentrain(*words, *(["train.steps=4"] if words[0] == "train" else []))
        assert ended.status == 2
        name = "zebra" if change == "renamed" else "bird"
        assert f"class {name} is none of those that the run was trained with: cat, dog" in ended.one_line()


def test_a_model_that_needs_labels_and_data_without(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album", 40, "cat", "dog")
    train(model=CONDITIONAL)
    album("flat", 20, first=100)
    for words in (["eval", "samples=1"], ["reconstruct"]):
        ended = gentrain(*words, "ckpt=run", "dataset.root=flat")
        assert ended.status == 2
        assert "needs the label" in ended.one_line()
        assert "test images do" not in ended.one_line()


# Places


def test_the_cache_is_this_machines(
    gentrain: Callable[..., Ended], train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    album("album", 30)
    monkeypatch.setenv("GENTRAIN_CACHE", str(Path("A").absolute()))
    train()
    shutil.rmtree("A")
    Path("A").write_text("no folder")  # as unusable as a read-only one
    monkeypatch.setenv("GENTRAIN_CACHE", str(Path("B").absolute()))
    for words in (["train", "resume=run", "train.steps=4"], ["eval", "ckpt=run", "samples=1"]):
        ended = gentrain(*words)
        assert ended.status == 0, ended.err
    assert list(Path("B").glob("folder-*"))
    ended = gentrain("train", "resume=run", "train.steps=6", "dataset.cache=C")
    assert ended.status == 0, ended.err
    assert list(Path("C").glob("folder-*"))
    monkeypatch.setenv("GENTRAIN_CACHE", "")
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    assert gentrain("eval", "ckpt=run", "samples=1").status == 0
    assert list(Path("home/.cache/gentrain").glob("folder-*"))


def test_a_cache_path_in_an_older_checkpoint_binds_nobody(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album", 30)
    train()
    path = Path("run/checkpoints/last.pt")
    state = checkpoint.load(path)
    assert "cache: null" in state["config"]
    config = state["config"].replace("cache: null", "cache: /proc/nowhere")
    checkpoint.save({**state, "config": config}, path)
    assert gentrain("eval", "ckpt=run", "samples=1").status == 0
    assert gentrain("train", "resume=run", "train.steps=4").status == 0


# What was written before


def test_a_checkpoint_that_does_not_know_its_data(
    gentrain: Callable[..., Ended], train: Callable[..., None]
) -> None:
    album("album", 30)
    train()
    path = Path("run/checkpoints/last.pt")
    state = checkpoint.load(path)
    del state["data"]
    checkpoint.save(state, path)
    ended = gentrain("eval", "ckpt=run", "samples=1")
    assert ended.status == 0
    assert "earlier version" in ended.err
    assert "cannot be checked" in ended.err
    ended = gentrain("train", "resume=run", "train.steps=4")
    assert ended.status == 0
    assert "not bit-exact: the checkpoint is of an earlier version" in ended.err
    assert checkpoint.load(path)["data"]["counts"]["train"] > 0


def test_a_cache_without_hashes(
    gentrain: Callable[..., Ended], train: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENTRAIN_CACHE", str(Path("cache").absolute()))
    album("album", 30)
    train()
    (entry,) = Path("cache").glob("folder-*/entry.json")
    content = json.loads(entry.read_text())
    for split in ("train", "test"):
        del content["arrays"][f"{split}_hashes"]
    entry.write_text(json.dumps(content))
    assert gentrain("eval", "ckpt=run", "samples=1").err == ""


# The comparison itself


def identity(train: list[int], test: list[int], digest: str = "") -> Identity:
    hashes = {"train": np.array(train), "test": np.array(test)}
    return Identity("/album", digest or f"{train}{test}", {"train": len(train), "test": len(test)}, hashes)


def test_changed() -> None:
    then = identity([1, 2, 3, 9], [4, 5, 9]).to_dict()
    assert then["twice"].tolist() == [9]
    assert changed(then, identity([1, 2, 3, 9], [4, 5, 9])) is None
    change = changed(then, identity([1, 4, 9], [2, 3, 5, 7, 9]))
    assert change is not None
    # 9 lay twice in the data from the first.
    assert (change.leaks, change.trained, change.stranger) == ({"test": 2}, 1, False)
    assert str(change).endswith("2 of the 5 test images were trained on")
    other = changed(identity([1], [2]).to_dict(), identity([1], [2], "other labels"))
    assert other is not None
    assert not other.leaks
    strange = changed(then, identity([11], [12]))
    assert strange is not None
    assert strange.stranger


def test_what_a_run_was_trained_on_before_counts() -> None:
    first = identity([1, 2, 8], [5]).to_dict()
    then = identity([2, 3, 6], [5, 6]).to_dict(first)
    assert sorted(then["hashes"]["train"].tolist()) == [1, 2, 3, 6, 8]
    assert then["hashes"]["test"].tolist() == [5, 6]
    assert then["twice"].tolist() == [6]
    change = changed(then, identity([2, 3], [1, 5]))
    assert change is not None
    assert change.leaks == {"test": 1}
    # Also where nothing has changed since: the run was resumed onto these.
    leaking = identity([2, 3], [1, 8]).to_dict(first)
    again = changed(leaking, identity([2, 3], [1, 8]))
    assert again is not None
    assert again.same
    assert again.leaks == {"test": 2}
