"""What data sets of pictures have in common: what may be done to images when they are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gentrain.data.source import Source
from gentrain.data.stacked import FACTS
from gentrain.data.words import combinations_in
from gentrain.files import expanded

#: What a partner can be made of, by `data.partners`.
SOURCES = ("grey", "edges", "outline", "shrink", "hole", "invert", "background")


class ImageSource(Source):
    """Base of data sets of pictures: what may be done to them when they are served.

    Args:
        root, cache, validation, split_seed, license: as of `Source`.
        binarize: none, dynamic (a fresh Bernoulli draw, P(1) = x/(levels-1), each time an image is
            served; Burda et al. 2016, section 5), fixed (one such draw per image from `split_seed`,
            equal in every epoch and process; it is not the file of Larochelle and Murray 2011) or threshold
            (1 where x/(levels-1) >= 1/2: no draw; likelihoods are some 25 nats higher on MNIST).
        flip: mirror training images left to right with probability 1/2.
        crop: pixels by which training images are padded, mirrored at their edges, to be cut out of that at a
            random place.
        source: one of `partners.SOURCES`: what each image's partner is made of; None: it has none.
        paired: whether the two are served together; if not, training images of even number are the sources,
            those of odd number the images.
        background: a folder or zip of photographs, for source=background.
        stacked: two images with labels become one, one above the other, with captions (`data.stacked`).
        held_out: combinations of words that no training image has in a caption: a list, or a file with one a
            line; None: none are held out.

    Raises:
        ValueError: as of `Source`, a source that is unknown, or `held_out` for images without captions.
        UserError: the file of `held_out` cannot be read.
    """

    formerly: ClassVar[Mapping[str, Any]] = {
        **Source.formerly,
        "crop": 0,
        "source": None,
        "paired": True,
        "background": None,
        "stacked": False,
        "held_out": None,
    }
    #: Whether the images have captions of their own.
    captioned: ClassVar[bool] = False

    def __init__(
        self,
        *,
        binarize: str,
        flip: bool,
        crop: int,
        source: str | None,
        paired: bool,
        background: str | None,
        stacked: bool,
        held_out: str | Sequence[str] | None,
        **settings: Any,
    ) -> None:
        if binarize not in ("none", "dynamic", "fixed", "threshold"):
            hint = "; that file is dataset=binarized_mnist" if binarize == "larochelle" else ""
            raise ValueError(
                f"dataset.binarize must be none, dynamic, fixed or threshold, found {binarize}{hint}"
            )
        if crop < 0:
            raise ValueError(f"dataset.crop must be at least 0, found {crop}")
        super().__init__(**settings)
        self.binarize = binarize
        self.flip = flip
        self.crop = crop
        if source is not None:
            check_source(source, background, binarize)
        self.source, self.paired = source, paired
        if held_out is not None and not (stacked or self.captioned):
            raise ValueError(
                f"dataset.held_out must be null: dataset={self.name} has no captions; "
                "set dataset.stacked=true"
            )
        self.stacked = stacked
        if stacked:
            self.facts = FACTS
        self.combinations = combinations_in(
            held_out, lambda file: expanded(file, "name a file with dataset.held_out").read_text("utf-8")
        )
        self.background = (
            None
            if background is None or source != "background"
            else expanded(background, "name a folder with dataset.background=FOLDER, or set HOME")
        )


def check_source(source: str, background: str | None, binarize: str) -> None:
    """Refuse a `dataset.source` that cannot be made.

    Raises:
        ValueError: an unknown one, photographs that are missing, or images that are binarised.
    """
    if source not in SOURCES:
        raise ValueError(f"dataset.source must be one of {', '.join(SOURCES)}, found {source}")
    if source == "background" and background is None:
        raise ValueError("dataset.source=background needs dataset.background=PATH, photographs")
    if binarize != "none":
        raise ValueError(f"dataset.source={source} needs dataset.binarize=none, found {binarize}")
