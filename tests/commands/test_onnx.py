"""A model as an ONNX graph: it computes the same, or says why it cannot be one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Ended

import gentrain as package
from gentrain.commands import to_onnx
from gentrain.contracts import EncodesDecodes, LatentsToImages
from gentrain.contracts.condition import Conditional


def graph(folder: str) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])


def test_a_generator_as_onnx(made: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("export", "ckpt=gan", "out=graph", "trust=toys", "format=onnx")
    assert done.status == 0, done.err
    assert "onnxruntime gives torch's pixels within" in done.out
    assert {f.name for f in Path("graph").iterdir()} == {
        *("model.onnx", "config.json", "README.md", "samples.png"),
    }
    model = package.load("gan", trust="toys")
    session = graph("graph")
    for size in (1, 3, 17):
        z = torch.randn(size, 8)
        (pixels,) = session.run(None, {"z": z.numpy()})
        assert pixels.shape == (size, 1, 8, 8)
        levels = torch.from_numpy(pixels * 16).round().to(torch.uint8)
        assert (levels.int() - model.latents_to_images(z).int()).abs().max() <= 1
        wanted = (model.generator(z).view(-1, 1, 8, 8) + 1) / 2
        assert float((torch.from_numpy(pixels) - wanted.detach()).abs().max()) < 1e-5
    done = gentrain("sample", "ckpt=graph", "trust=toys")
    assert done.status == 2
    assert "holds an ONNX graph" in done.one_line()


class Conditioned(Conditional, LatentsToImages, EncodesDecodes):
    """A decoder of p(x|z, y)."""

    latent_dim = 3

    def __init__(self, spec: package.DataSpec) -> None:
        super().__init__(spec)
        self.net = torch.nn.Linear(3 + self.condition.size, spec.dims)

    def _decode(self, z: torch.Tensor, *y: torch.Tensor) -> torch.distributions.Distribution:
        label = torch.nn.functional.one_hot(y[0], self.condition.size).to(z.dtype)
        logits = self.net(torch.cat([z, label], dim=1)).view(-1, *self.spec.shape)
        return torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 3)


def test_a_conditional_decoder_as_onnx() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = Conditioned(package.DataSpec((1, 4, 4), levels=2, classes=5)).eval()
    content, said = to_onnx.exported(model)
    assert said["condition"] == "label"
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    z, y = torch.randn(7, 3), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    (pixels,) = session.run(None, {"z": z.numpy(), "label": y.numpy()})
    wanted = model.decode(z, condition=y).mean.detach()
    assert float((torch.from_numpy(pixels) - wanted).abs().max()) < 1e-5
    assert torch.distributions.Distribution._validate_args, "the check of values is on again"
    assert "levels_of" not in vars(model)


def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from gentrain.errors import Fault

    model = Conditioned(package.DataSpec((1, 4, 4), levels=2, classes=5)).eval()
    traced = to_onnx._traced

    def wrong(*args: Any) -> bytes:
        content = traced(*args)
        with torch.no_grad():
            model.net.bias.add_(0.01)
        return content

    monkeypatch.setattr(to_onnx, "_traced", wrong)
    with pytest.raises(Fault, match="differs from torch by"):
        to_onnx.exported(model)


def test_what_cannot_be_a_graph_says_so(
    made: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = gentrain("export", "ckpt=flow", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert "ToyFlow makes no picture from latents in one go" in done.one_line()
    monkeypatch.setattr(to_onnx, "NEEDED", ("onnx", "no_such_package"))
    done = gentrain("export", "ckpt=gan", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert "no_such_package, which is not installed: pip install 'gentrain[onnx]'" in done.one_line()
    monkeypatch.undo()

    def breaks(*_: Any) -> None:
        raise RuntimeError("cannot trace\nthis\n" * 50)

    monkeypatch.setattr(to_onnx, "_traced", breaks)
    os.chdir(made)
    done = gentrain("export", "ckpt=gan", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert done.one_line().endswith("ToyGAN cannot be exported: cannot trace")
    assert not Path("new").exists()
