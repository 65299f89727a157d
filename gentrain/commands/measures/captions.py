"""The metric `captions`: whether samples have what their captions say, on captions seen and never seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.measures.classifier import judge_of
from gentrain.commands.measures.frame import Measured, Metric, spread
from gentrain.commands.trained import device_of, open_data, stand
from gentrain.contracts import Samples
from gentrain.data.draws import generator
from gentrain.data.source import Data, Split
from gentrain.data.words import UNKNOWN, holds, said, text_of
from gentrain.errors import UserError
from gentrain.metrics.captions import agreement
from gentrain.metrics.classifier import predict

#: Images that are drawn at once.
_CHUNK = 500
#: What is asked of captions, and what captions those are.
_WHOSE = {"seen": "captions of training images", "unseen": "captions never seen in training"}


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The share of samples in which a classifier sees what the caption says, fact by fact and all together.

    Raises:
        UserError: missing data, or data whose captions say no facts.
    """
    data = open_data(loaded, config)
    if not data.facts:
        raise UserError(
            f"metrics=[captions]: it is not known what captions of {data.name} say; train with "
            "dataset.facts={NAME:[PHRASE,PHRASE]}"
        )
    told = {name: _values(data, pattern) for name, pattern in data.facts.items()}
    told = {name: values for name, values in told.items() if len(values) > 1}
    if not told:
        raise UserError(
            f"metrics=[captions]: training captions say no two different things of {', '.join(data.facts)}; "
            "train with facts of which they do, dataset.facts={NAME:[PHRASE,PHRASE]}"
        )
    judges = {name: judge_of(_labelled(data, name, values), loaded, config) for name, values in told.items()}
    stand(loaded, config)
    lines: list[str] = []
    figures: dict[str, Any] = {}
    for whose, captions in _captions(data, config).items():
        if not len(captions):
            lines.append(f"captions {whose}: none; name some with dataset.held_out")
            continue
        y = torch.from_numpy(captions).long()
        nets = {name: judge.net for name, (judge, _) in judges.items()}
        seen = _seen(loaded, y, nets)  # [n, F]
        words = [_words(row, data) for row in captions]
        wanted = torch.tensor(
            [
                [_index(said(text, data.facts[name]), values) for name, values in told.items()]
                for text in words
            ]
        )
        caption = torch.from_numpy(np.unique(captions, axis=0, return_inverse=True)[1].reshape(-1))
        different = int(caption.max()) + 1
        lines.append(f"captions {whose}: {len(y):,} samples of {different:,} {_WHOSE[whose]}")
        figures[f"{whose}_captions"] = different
        every = [*told, *(["all"] if len(told) > 1 else [])]
        for i, name in enumerate(every):
            column = slice(None) if name == "all" else slice(i, i + 1)
            found = agreement(wanted[:, column], seen[:, column], caption)
            lines.append(
                f"        {name:10}{found.accuracy:.4f}{spread(found.stderr, 4)} right of {found.images:,} "
                f"of {found.captions:,} captions, {found.shuffled:.4f} with captions shuffled, "
                f"{found.score:+.4f}"
            )
            figures |= {f"{whose}_{name}": found.accuracy, f"{whose}_{name}_stderr": found.stderr}
            figures |= {f"{whose}_{name}_shuffled": found.shuffled, f"{whose}_{name}_images": found.images}
            figures |= {f"{whose}_{name}_score": found.score, f"{whose}_{name}_captions": found.captions}
    for name, (judge, which) in judges.items():
        lines.append(
            f"judge   {name}: classifier {which}, {judge.accuracy:.2%} of {judge.test_images:,} test images "
            "right"
        )
        figures[f"classifier_{name}"], figures[f"classifier_{name}_accuracy"] = which, judge.accuracy
    dataset = loaded.config.names.dataset or data.name
    figures["estimator"] = f"{config.n:,} samples, seen by classifiers of {dataset}"
    figures |= {"values": told, "n": config.n, "truncation": config.truncation}
    return Measured(lines, figures, f"eval_captions_{config.n}.json")


def _words(row: np.ndarray, data: Data) -> str:
    assert data.spec.vocabulary is not None
    return text_of(row.tolist(), data.spec.vocabulary)


def _rows(split: Split) -> np.ndarray:
    """Every caption of every image, one a row: int32 [M, T]."""
    tokens = split.parts["caption"]
    rows = tokens.reshape(-1, tokens.shape[-1])
    found: np.ndarray = rows[rows[:, 0] != 0]
    return found


def _values(data: Data, pattern: str) -> list[str]:
    """What training captions say of a fact, in alphabetical order."""
    rows = np.unique(_rows(data.train), axis=0)
    return sorted({value for row in rows if (value := said(_words(row, data), pattern)) is not None})


def _index(value: str | None, values: Sequence[str]) -> int:
    return -1 if value is None or value not in values else list(values).index(value)


def _labelled(data: Data, name: str, values: Sequence[str]) -> Data:
    """The images whose captions say something of a fact, with that as their label."""

    def labelled(split: Split) -> Split:
        tokens = split.parts["caption"]
        first = tokens if tokens.ndim == 2 else tokens[:, 0]
        labels = np.array([_index(said(_words(row, data), data.facts[name]), values) for row in first])
        kept = np.flatnonzero(labels >= 0)
        if not len(kept):
            raise UserError(f"metrics=[captions]: there are no real images of {name} to test a classifier on")
        images = split.images if len(kept) == len(labels) else split.images[kept]
        return Split({"x": images, "label": labels[kept].astype(np.int64)})

    spec = dataclasses.replace(
        data.spec, classes=len(values), label_names=tuple(values), vocabulary=None, caption_length=None
    )
    return dataclasses.replace(
        data, spec=spec, train=labelled(data.train), validation=None, test=labelled(data.test)
    )


def _captions(data: Data, config: DictConfig) -> dict[str, np.ndarray]:
    """{seen, unseen: captions int32 [n, T], drawn from all that there are, or none}."""
    assert data.spec.vocabulary is not None
    unknown = data.spec.vocabulary.index(UNKNOWN) + 1 if UNKNOWN in data.spec.vocabulary else -1
    trained, tested = _rows(data.train), _rows(data.test)
    tested = tested[(tested != unknown).all(1)]
    if data.held_out:
        out = [any(holds(_words(row, data).split(), c) for c in data.held_out) for row in tested]
        tested = tested[np.array(out, dtype=np.bool_)]
    else:
        known = {row.tobytes() for row in trained}
        tested = tested[np.array([row.tobytes() not in known for row in tested], dtype=np.bool_)]
    found = {"seen": trained[(trained != unknown).all(1)], "unseen": tested}
    for whose, rows in found.items():
        if len(rows):  # fewer captions than `n` are drawn several times each
            drawn = generator("captions", whose, int(config.seed)).permutation(len(rows))
            found[whose] = rows[np.resize(drawn, config.n)]
    return {whose: np.ascontiguousarray(rows) for whose, rows in found.items()}


def _seen(loaded: Loaded, y: Tensor, nets: dict[str, Any]) -> Tensor:
    """What the classifiers see in one sample for each caption [n, T]: int64 [n, F]."""
    found: list[list[Tensor]] = [[] for _ in nets]
    for images in _samples(loaded, y):
        for i, net in enumerate(nets.values()):
            found[i].append(predict(net, [images])[0])
    return torch.stack([torch.cat(parts) for parts in found], 1)


def _samples(loaded: Loaded, y: Tensor) -> Iterator[Tensor]:
    model: Any = loaded.model
    for start in range(0, len(y), _CHUNK):
        some = y[start : start + _CHUNK].to(device_of(loaded))
        yield model.sample(len(some), condition=some)


METRIC = Metric(
    measure,
    Samples,
    "samples",
    given="caption",
    means={
        "seen_all": "Share of samples that have all that their caption says, of captions of the training "
        "images; seen_all_shuffled is what chance would have; its standard error is over captions.",
        "unseen_all": "The same of captions that were never trained on.",
    },
)
