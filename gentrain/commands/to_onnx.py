"""The way from latents to pixels as an ONNX graph, which any runtime computes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentrain.contracts import Conditional, EncodesDecodes, GenerativeModel, LatentsToImages
from gentrain.errors import Fault, UserError
from gentrain.exported import GRAPH

#: How far a pixel in [0, 1] may be from torch's.
TOLERANCE = 1e-5
#: What the extra installs to write a graph.
NEEDED = ("onnx", "onnxscript")


class Pixels(nn.Module):
    """z [B, D] and the condition, where the model takes one -> pixels float32 [B, C, H, W] in [0, 1].

    Of a model with p(x|z) its mean; of others the image, before it is rounded where `levels_of` does that.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """As the class says."""
        model, given = self.model, () if y is None else (y,)
        if isinstance(model, EncodesDecodes):
            pixels = model._decode(z, *given).mean
        else:
            pixels = model._latents_to_images(z, *given)
        return pixels.float() / (model.spec.levels - 1)


def exported(model: GenerativeModel) -> tuple[bytes, dict[str, Any]]:
    """The graph of `model`, and what a card says of it.

    Raises:
        UserError: the model makes no pictures from latents, a package is missing, or torch cannot export it.
        Fault: onnxruntime computes something else than torch.
    """
    if not isinstance(model, LatentsToImages):
        raise UserError(
            f"format=onnx: {type(model).__name__} makes no picture from latents in one go, which is what a "
            "graph holds; take format=safetensors"
        )
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"format=onnx needs {' and '.join(missing)}, which is not installed: pip install 'gentrain[onnx]'"
        )
    inputs, names = examples(model, 3)
    pixels = Pixels(model).eval()
    with unrounded(model), torch.no_grad():
        try:
            with quiet():
                content = _traced(pixels, inputs, names)
        except Exception as error:  # torch's exporter has many, and long ones
            cause = first_cause(error)
            raise UserError(f"format=onnx: {type(model).__name__} cannot be exported: {cause}") from error
        check(content, pixels, model, names)
    condition = names[1] if len(names) > 1 else None
    feed = ", ".join(["'z': z", *([f"'{condition}': {condition}"] if condition else [])])
    return content, {
        "file": GRAPH,
        "latent_dim": model.latent_dim,
        "prior": model.latent_prior,
        "condition": condition,
        "shape": ", ".join(map(str, model.spec.shape)),
        "feed": "{" + feed + "}",
    }


def first_cause(error: BaseException, most: int = 200) -> str:
    """What an exception that was raised because of others began with, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\x1b\[[0-9;]*m", "", line)[:most]


def examples(model: Any, n: int) -> tuple[tuple[Tensor, ...], list[str]]:
    """`n` latents, and conditions where the model takes them, with the names of both."""
    like = next(model.parameters())
    z = torch.randn(n, model.latent_dim, dtype=like.dtype, device=like.device)
    if not isinstance(model, Conditional) or model.condition is None:
        return (z,), ["z"]
    return (z, model.in_turn(n)), ["z", model.condition.name]


def _traced(pixels: Pixels, inputs: tuple[Tensor, ...], names: list[str]) -> bytes:
    """The graph as ONNX writes it, the batch dimension free."""
    batch = torch.export.Dim("batch")
    with tempfile.TemporaryDirectory(prefix="gentrain-") as scratch:
        path = Path(scratch) / GRAPH
        torch.onnx.export(
            pixels,
            inputs,
            str(path),
            input_names=names,
            output_names=["pixels"],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def check(content: bytes, pixels: Pixels, model: GenerativeModel, names: list[str]) -> None:
    """Hold the graph against torch, for batches of several sizes, where onnxruntime is there.

    Raises:
        Fault: they differ.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        print("note    the graph is not checked: onnxruntime is not installed")
        return
    # By name: it is an extra, not a dependency.
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in (1, 2, 5):
        inputs, _ = examples(model, size)
        wanted = pixels(*inputs).cpu()
        feed = {name: value.cpu().numpy() for name, value in zip(names, inputs, strict=True)}
        (found,) = session.run(None, feed)
        if found.shape != tuple(wanted.shape):
            raise Fault(f"format=onnx: the graph gives {list(found.shape)}, torch {list(wanted.shape)}")
        worst = max(worst, float((torch.from_numpy(found) - wanted).abs().max()))
    if not worst <= TOLERANCE:
        raise Fault(f"format=onnx: the graph differs from torch by {worst:.2g}, more than {TOLERANCE:g}")
    print(f"checked onnxruntime gives torch's pixels within {worst:.1e}")


@contextlib.contextmanager
def unrounded(model: GenerativeModel) -> Iterator[None]:
    """`model` with images that are not rounded to levels: a rounded one cannot be compared to 1e-5."""
    highest = model.spec.levels - 1

    def levels_of(y: Tensor) -> Tensor:
        return ((y + 1) / 2 * highest).clamp(0, highest)

    model.levels_of = levels_of  # type: ignore[method-assign]
    validating = torch.distributions.Distribution._validate_args
    # What a distribution checks depends on values, which a graph does not know.
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(validating)
        del model.levels_of


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter says on the way."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
