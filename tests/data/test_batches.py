from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentrain.contracts import Batch, DataSpec
from gentrain.data import batches as module
from gentrain.data.batches import Batches, available_memory, fits, images_at, in_order
from gentrain.data.source import Data, Split
from gentrain.errors import UserError

CPU = torch.device("cpu")
LEVELS = 17


def make(count: int, binarize: str = "none", flip: bool = False) -> Data:
    """Images of which each is unlike the others and unlike its mirror image; label = number."""
    images = np.random.default_rng(0).integers(0, LEVELS, (count, 1, 4, 5), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, -1] = 0, LEVELS - 1
    images.setflags(write=False)  # as memory maps are
    labels = np.arange(count)
    attributes = np.stack([labels % 2 == 0, labels % 3 == 0], axis=1)
    split = Split({"x": images, "label": labels, "attributes": attributes})
    spec = DataSpec((1, 4, 5), levels=2 if binarize == "dynamic" else LEVELS, classes=count)
    return Data(spec, split, None, split, binarize, flip, 0, LEVELS, "made", (0, LEVELS - 1))


def batches(data: Data, **settings: Any) -> Batches:
    return Batches(data, data.train, **{"seed": 1, "device": CPU, **settings})


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True) if p is not None and q is not None)


def label(batch: Batch) -> list[int]:
    assert batch.label is not None
    return batch.label.tolist()


sizes = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(sizes, st.integers(-3, 2**40))
@settings(max_examples=60, deadline=None)
def test_stream_is_one_permutation_after_the_other(sizes: tuple[int, int], seed: int) -> None:
    count, batch_size = sizes
    b = batches(make(count), batch_size=batch_size, seed=seed)
    stream = [i for step in range(b.steps(3)) for i in label(b.at(step))]
    epochs = [stream[e * count : (e + 1) * count] for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 8:
        assert len({tuple(epoch) for epoch in epochs}) == 3


def test_images_labels_and_attributes_belong_together() -> None:
    data = make(20)
    batch = batches(data, batch_size=7).at(5)
    assert batch.x.dtype == torch.uint8
    assert batch.label is not None
    assert batch.label.dtype == torch.int64
    assert batch.attributes is not None
    assert batch.attributes.dtype == torch.bool
    assert (batch.x.numpy() == data.train.images[batch.label]).all()
    assert (batch.attributes[:, 1] == (batch.label % 3 == 0)).all()


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from(["none", "dynamic"]),
    st.booleans(),
    st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_parts_of_the_ranks_make_the_batch_of_one(
    world: int, each: int, binarize: str, flip: bool, step: int
) -> None:
    data = make(23, binarize, flip)
    one = batches(data, batch_size=world * each).at(step)
    parts = [batches(data, batch_size=world * each, rank=r, world=world).at(step) for r in range(world)]
    assert all(len(part.x) == each for part in parts)
    assert same(Batch(*(torch.cat(p) for p in zip(*(part[:3] for part in parts), strict=True))), one)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=10), st.sampled_from(["none", "dynamic"]))
@settings(max_examples=40, deadline=None)
def test_a_batch_does_not_depend_on_what_was_read_before(steps: list[int], binarize: str) -> None:
    data = make(10, binarize, flip=True)
    used = batches(data, batch_size=4)
    for step in steps:
        got = used.at(step)
        assert same(got, batches(data, batch_size=4).at(step))
        got.x.fill_(99)  # whoever spoils a batch does not spoil the data


def test_seed_changes_order_and_draws() -> None:
    data = make(30, "dynamic")
    a, b = (batches(data, batch_size=30, seed=seed).at(0) for seed in (1, 2))
    assert label(a) != label(b)
    assert not torch.equal(a.x[torch.argsort(a.label)], b.x[torch.argsort(b.label)])  # type: ignore[arg-type]


def test_flips_mirror_half_of_the_images() -> None:
    data = make(50, flip=True)
    b = batches(data, batch_size=50)
    mirrored = 0
    for step in range(40):
        batch = b.at(step)
        upright = torch.from_numpy(data.train.images[label(batch)])
        is_mirrored = (batch.x == upright.flip(-1)).flatten(1).all(1)
        assert ((batch.x == upright).flatten(1).all(1) ^ is_mirrored).all()
        mirrored += int(is_mirrored.sum())
    assert abs(mirrored - 1000) < 5 * math.sqrt(2000 / 4)
    assert (data.train.images == make(50).train.images).all()


def test_dynamic_binarisation_has_the_mean_of_the_image_and_is_fresh() -> None:
    data = make(5, "dynamic")
    b = batches(data, batch_size=5)
    n = 4000
    total = np.zeros(data.train.images.shape)
    seen = set()
    for step in range(n):
        batch = b.at(step)
        total[label(batch)] += batch.x.numpy()
        seen.add(batch.x.numpy().tobytes())
        assert batch.x.max() <= 1
    p = data.train.images / (LEVELS - 1)
    deviation = np.abs(total / n - p)
    assert (deviation <= 5 * np.sqrt(p * (1 - p) / n)).all()
    assert len(seen) == n


@pytest.mark.parametrize(("binarize", "flip"), [("none", False), ("none", True), ("dynamic", True)])
def test_device_path_keeps_the_same_promises(binarize: str, flip: bool) -> None:
    """The path of GPUs, run on the CPU: resident tensors and draws of torch."""

    def on_device(rank: int, world: int) -> Batches:
        b = batches(data, batch_size=6, rank=rank, world=world)
        b._on_device = {name: module._to_device(array, CPU) for name, array in data.train.parts.items()}
        b._augment._in_numpy = b._augment._on_device  # type: ignore[method-assign]
        return b

    data = make(10, binarize, flip)
    changed = 0
    for step in range(20):
        one = on_device(0, 1).at(step)
        parts = [on_device(rank, 3).at(step) for rank in range(3)]
        assert same(Batch(*(torch.cat(p) for p in zip(*(part[:3] for part in parts), strict=True))), one)
        plain = batches(make(10), batch_size=6).at(step)
        assert label(plain) == label(one)
        assert one.x.dtype == torch.uint8
        if binarize == "dynamic":
            assert one.x.max() <= 1
        else:
            alike = [torch.equal(a, b) for a, b in zip(one.x, plain.x, strict=True)]
            mirrored = [torch.equal(a.flip(-1), b) for a, b in zip(one.x, plain.x, strict=True)]
            assert all(a != b for a, b in zip(alike, mirrored, strict=True))
            changed += sum(mirrored)
    if binarize == "none":
        assert (30 < changed < 90) if flip else changed == 0


def test_device_path_draws_afresh_in_each_step() -> None:
    b = batches(make(10, "dynamic"), batch_size=10)
    x = torch.full((10, 1, 4, 5), LEVELS // 2, dtype=torch.uint8)
    assert len({b._augment._on_device(Batch(x), step).x.numpy().tobytes() for step in range(20)}) == 20


def test_data_that_does_not_fit_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(10, "dynamic", flip=True)
    resident = batches(data, batch_size=4)
    monkeypatch.setattr(module, "fits", lambda size, device: False)
    read = batches(data, batch_size=4)
    assert read._arrays["x"] is data.train.images
    assert resident._arrays["x"] is not data.train.images
    assert all(same(resident.at(step), read.at(step)) for step in range(8))


def test_what_fits() -> None:
    memory = available_memory()
    assert 10**7 < memory < 10**14
    assert fits(memory // 5, CPU)
    assert not fits(memory // 3, CPU)


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs", "steps"),
    [
        (1280, 128, 1, 10),
        (1280, 128, 0.1, 1),
        (1281, 128, 1, 11),
        (10, 3, 3, 10),
        (7, 7, 2, 2),
        (10, 4, 2.5, 7),
    ],
)
def test_steps_of_epochs(count: int, batch_size: int, epochs: float, steps: int) -> None:
    b = batches(make(count), batch_size=batch_size)
    assert b.steps(epochs) == steps
    assert b.steps_per_epoch == count / batch_size


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 11}, ["train.batch_size=11", "10 training images", "train.batch_size=10"]),
        ({"batch_size": 0}, ["train.batch_size", "at least 1", "0"]),
        ({"batch_size": 7, "world": 2}, ["train.batch_size=7", "2 processes", "train.batch_size=8"]),
    ],
)
def test_impossible_batch_sizes(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        batches(make(10), **settings)
    assert all(word in str(error.value) for word in words)


@given(st.integers(1, 20), st.integers(1, 25), st.integers(1, 5), st.none() | st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_in_order_reads_every_image_once(count: int, batch_size: int, world: int, limit: int | None) -> None:
    data = make(count, flip=True)
    seen: list[int] = []
    for rank in range(world):
        for batch in in_order(
            data, data.test, batch_size=batch_size, device=CPU, seed=0, rank=rank, world=world, limit=limit
        ):
            assert 1 <= len(batch.x) <= batch_size
            assert (batch.x.numpy() == data.test.images[label(batch)]).all()  # never mirrored
            seen += label(batch)
    assert sorted(seen) == list(range(min(count, limit or count)))
    assert world > 1 or seen == sorted(seen)


def test_evaluation_draws_depend_on_seed_and_image_alone() -> None:
    data = make(11, "dynamic")

    def read(**settings: Any) -> torch.Tensor:
        parts = in_order(data, data.test, **{"batch_size": 4, "device": CPU, "seed": 5, **settings})
        return torch.cat([batch.x for batch in parts])

    whole = read()
    assert whole.max() == 1
    assert torch.equal(read(batch_size=11), whole)
    assert torch.equal(read(rank=1, world=3), whole[1::3])
    assert not torch.equal(read(seed=6), whole)
    assert torch.equal(images_at(data, data.test, [7, 2, 7], seed=5).x, whole[[7, 2, 7]])


def test_images_at() -> None:
    data = make(11)
    batch = images_at(data, data.test, [3, 0], seed=0)
    assert label(batch) == [3, 0]
    for index in (-1, 11):
        with pytest.raises(UserError, match=f"no image {index} .*valid are 0 to 10"):
            images_at(data, data.test, [0, index], seed=0)
    with pytest.raises(UserError, match="0 to 10"):
        images_at(data, data.test, [], seed=0)


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"limit": 0}])
def test_in_order_refuses_what_makes_no_sense(setting: dict[str, int]) -> None:
    data = make(3)
    with pytest.raises(ValueError, match=f"{next(iter(setting))} .*at least 1.* found 0"):
        next(in_order(data, data.test, **{"batch_size": 1, "device": CPU, "seed": 0, **setting}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_cuda(monkeypatch: pytest.MonkeyPatch, resident: bool, binarize: str) -> None:
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(module, "fits", lambda size, device: resident)
    data = make(50, binarize)
    b = batches(data, batch_size=8, device=cuda)
    b.at(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = [b.at(step) for step in range(30)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, batch in enumerate(got):
        plain = batches(make(50), batch_size=8).at(step)
        assert batch.x.device == cuda
        assert label(batch) == label(plain)
        black, white = plain.x == 0, plain.x == LEVELS - 1
        x = batch.x.cpu()
        if binarize == "none":
            assert torch.equal(x, plain.x)
        else:
            assert not x[black].any()
            assert x[white].all()
        parts = [batches(data, batch_size=8, device=cuda, rank=r, world=2).at(step) for r in range(2)]
        assert torch.equal(torch.cat([part.x for part in parts]), batch.x)
