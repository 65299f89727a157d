"""Features: the same whatever the batch, of images of any levels and channels; wrong weights are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.metrics import extractors
from gentrain.metrics.classifier import Classifier, Recipe
from gentrain.metrics.extractors import (
    ClassifierFeatures,
    Inception,
    Lite0,
    Missing,
    check_file,
    extractor,
    in_colour,
)


def images(*shape: int, levels: int = 256, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    return Lite0(256)


def test_features_do_not_depend_on_the_batch(lite0: Lite0) -> None:
    see = extractor("lite0", "x", "0123456789abcdef", lite0, torch.device("cpu"))
    x = images(5, 3, 32, 32)
    whole, parts = see([x]), see(x.split(2))
    assert whole.shape == (5, 1280)
    assert float((whole - parts).abs().max()) < 1e-4
    assert float((whole[0] - whole[1]).abs().max()) > 0.01, "different images have different features"
    assert see.weights == "0123456789ab"


def test_grey_images_are_seen_as_colour_and_few_levels_as_256(lite0: Lite0) -> None:
    x = images(2, 1, 8, 8, levels=2)
    few = Lite0.forward(lite0, x * 255)
    lite0.levels = 2
    try:
        assert torch.allclose(lite0(x), few, atol=1e-4)
    finally:
        lite0.levels = 256
    assert in_colour(x, 2).shape == (2, 3, 8, 8)
    assert in_colour(x, 2).unique().tolist() == [0, 255]


def test_it_was_trained_on_pictures(lite0: Lite0) -> None:
    """Its features of a blurred picture are nearer to the picture's than those of noise are."""
    rows = torch.linspace(0, 3.14, 32).sin()
    picture = (255 * rows[:, None] * rows).to(torch.uint8).expand(1, 3, 32, 32)
    near, far = (picture / 1.1).to(torch.uint8), images(1, 3, 32, 32)
    of = [lite0(x) for x in (picture, near, far)]
    assert (of[0] - of[1]).norm() < 0.5 * (of[0] - of[2]).norm()


def test_it_sees_what_is_there(lite0: Lite0) -> None:
    """ImageNet's weights see a stupa in a photograph of a temple; levels are scaled as they expect."""
    photograph = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None]
    assert lite0.net._fc(lite0(photograph)).softmax(1)[0, 832] > 0.9
    shown: list[Tensor] = []
    hook = lite0.net._conv_stem.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    lite0(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(-1, 3, 8, 8))
    hook.remove()
    assert shown[0].amin((1, 2, 3)).tolist() == pytest.approx([-127 / 128, 1.0], abs=1e-4)
    assert shown[0].shape == (2, 3, 96, 96)


def test_the_classifiers_features_are_its_hidden_units() -> None:
    net = Classifier(DataSpec((1, 8, 8), classes=3), Recipe(widths=(4,), hidden=5)).eval()
    x = images(3, 1, 8, 8)
    hidden = ClassifierFeatures(net)(x)
    assert hidden.shape == (3, 5)
    assert torch.equal(net.logits[-1](hidden), net(x))


def test_a_file_that_is_another_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "weights.pth"
    with pytest.raises(
        Missing, match=r"weights.pth: No such file or directory; get weights-.* from https://"
    ):
        Inception(256, place)
    place.write_bytes(b"hostile")
    with pytest.raises(Missing, match=r"expected the file with SHA-256 6726825d0af5\.\.\., found .*; get "):
        Inception(256, place)
    digest = "3bc6394fc9ffb8ce1ae8bd4f9d11c7c1c8d0e9e0" * 2
    with pytest.raises(Missing):
        check_file(place, digest[:64], "x")
    monkeypatch.setattr(extractors, "LITE0", "0" * 64)
    with pytest.raises(Missing, match="pip install --force-reinstall"):
        Lite0(256)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(Missing, match=r"pip install 'gentrain\[features\]'"):
        Lite0(256)
    place = tmp_path / "weights.pth"
    place.write_bytes(b"right")
    monkeypatch.setattr(extractors, "check_file", lambda *arguments: None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(Missing, match=r"pip install 'gentrain\[fid\]'"):
        Inception(256, place)


@pytest.mark.slow
def test_inception_is_torch_fidelitys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights of our own in its layout: the file is read, and grey images are seen as colour."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    monkeypatch.setattr(theirs.torch, "load", lambda *a, **k: None)
    monkeypatch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *a, **k: None)
    torch.manual_seed(0)
    net: nn.Module = theirs.FeatureExtractorInceptionV3("x", ["2048"], "none")
    monkeypatch.undo()
    place = tmp_path / "weights.pth"
    torch.save(net.state_dict(), place)
    monkeypatch.setattr(extractors, "check_file", lambda *arguments: None)
    ours = Inception(2, place)
    x = images(2, 1, 8, 8, levels=2)
    assert torch.equal(ours(x), net((255 * x).expand(-1, 3, -1, -1))[0])
    assert ours(x).shape == (2, 2048)
