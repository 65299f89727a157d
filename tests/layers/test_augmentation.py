"""Augmentations: what moves where, what is cut out, in which ranges, and that a gradient passes."""

from __future__ import annotations

import pytest
import torch

from gentrain.layers.augmentation import AUGMENTATIONS, DiffAugment, colour, cutout, translation


def test_a_translation_moves_whole_images_and_black_comes_in() -> None:
    torch.manual_seed(0)
    place = torch.arange(16.0 * 24).view(1, 1, 16, 24).expand(300, 2, -1, -1).clone()
    moved = translation(place)
    seen = set()
    for image in moved:
        inside = image[0] >= 0
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        assert torch.equal(inside, inside.any(1)[:, None] & inside.any(0)), "a rectangle"
        y, x = divmod(int(image[0, top, left]), 24)
        assert image[0, rows[-1], columns[-1]] == (y + len(rows) - 1) * 24 + x + len(columns) - 1
        assert torch.equal(image[0], image[1]), "all channels alike"
        assert image[~inside.expand(2, -1, -1)].unique().tolist() in ([], [-1.0])
        seen.add((y - top, x - left))
    assert {dy for dy, _ in seen} == set(range(-2, 3)), "an eighth of 16"
    assert {dx for _, dx in seen} == set(range(-3, 4)), "an eighth of 24"


def test_a_rectangle_of_half_of_each_side_is_black() -> None:
    torch.manual_seed(0)
    cut = cutout(torch.full((500, 3, 8, 12), 0.5)) == -1
    assert torch.equal(cut.all(1), cut.any(1)), "all channels alike"
    sizes = cut[:, 0].flatten(1).sum(1)
    assert int(sizes.max()) == 4 * 6
    assert int(sizes.min()) >= 2 * 3, "the middle of the square lies on the image"
    assert cut.any(0).all(), "anywhere"
    assert 0.10 < cut.float().mean() < 0.25


def test_colours_stay_in_their_ranges() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 3, 4, 4) - 0.5
    y = colour(x)
    brightness = (y - x).mean((1, 2, 3))  # contrast and saturation keep an image's mean
    assert brightness.abs().max() <= 0.5
    assert brightness.var().item() == pytest.approx(1 / 12, rel=0.1)
    luma, was = y.mean(1) - y.mean((1, 2, 3))[:, None, None], x.mean(1) - x.mean((1, 2, 3))[:, None, None]
    contrast = (luma * was).sum((1, 2)) / was.square().sum((1, 2))  # saturation keeps a pixel's mean
    assert 0.5 <= contrast.min() < 0.52
    assert 1.48 < contrast.max() <= 1.5
    chroma, had = y - y.mean(1, keepdim=True), x - x.mean(1, keepdim=True)
    saturation = (chroma * had).sum((1, 2, 3)) / had.square().sum((1, 2, 3)) / contrast
    assert -1e-4 <= saturation.min() < 0.02
    assert 1.98 < saturation.max() <= 2.0001
    grey = torch.rand(50, 1, 4, 4)
    assert colour(grey).isfinite().all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gradient_passes_where_pixels_do(name: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 2, 4, 8, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return AUGMENTATIONS[name](x)

    assert torch.autograd.gradcheck(run, x)
    assert not torch.equal(run(x)[0], run(x)[1]), "each image has its own numbers"
    assert run(x.detach().bfloat16()).dtype == torch.bfloat16


def test_none_leaves_images_and_random_numbers_alone() -> None:
    x, state = torch.rand(2, 1, 8, 8), torch.get_rng_state()
    assert DiffAugment([])(x) is x
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"model\.augment must be one of colour, translation, cutout"):
        DiffAugment(["color"])
