"""How far translations are from the truth, each beside its source taken as it is.

[1] Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP
    13(4).
[2] Hasler & Suesstrunk 2003, "Measuring Colourfulness in Natural Images", SPIE 5007.
[3] CIE 15:2004, "Colorimetry", section 8.2.1 (L*a*b* and its chroma), of IEC 61966-2-1 (sRGB).
[4] Cochran 1977, "Sampling Techniques", third edition, section 2.11 (the error of a ratio).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, Translates, TranslatesBack

_WINDOW, _SIGMA = 11, 1.5  # of SSIM's Gaussian, [1] section III-B
_K1, _K2 = 0.01, 0.03
#: X, Y, Z of linear red, green and blue, IEC 61966-2-1.
_XYZ = torch.tensor(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64
)


@dataclass(frozen=True)
class Translation:
    """Means over images, and their standard errors, of what `measures` has; pixels are 0 to 1.

    images: how many; of: {whose: {figure: mean}}, whose being "translation", "beside", another model's, and,
    where shapes agree, "source", the source taken for its own translation, and "truth", of what needs no
    other image; stderr: likewise; shares: {(figure, whose): (mean of translations over mean of these, its
    standard error)}.
    """

    images: int
    of: dict[str, dict[str, float]]
    stderr: dict[str, dict[str, float]]
    shares: dict[tuple[str, str], tuple[float, float]]


#: What a translation's mean is held against as a share of.
_SHARES = (("l1", "source"), ("l1", "beside"), ("chroma", "truth"))


@torch.no_grad()
def evaluate_translation(
    model: Translates,
    batches: Iterable[Batch],
    spec: DataSpec,
    truth: bool,
    watch: Callable[[Batch, Mapping[str, Tensor]], None] | None = None,
    beside: Translates | None = None,
) -> Translation:
    """Means over images of how translations compare.

    With a truth (`truth`): L1, PSNR and SSIM to it. Colourfulness and chroma of pictures in colour, beside
    the truth's. Of a model that goes back, the L1 distance to where it began (`cycle`). Correlation of light
    and dark with the source (`alike`).

    Args:
        model: in eval mode.
        batches: of images with sources, on the model's device.
        spec: what they are.
        truth: whether `batch.x` is the partner of `batch.source`.
        watch: is shown each batch and {whose: its translations}, uint8 [B, C, H, W].
        beside: another model, in eval mode, that is shown the same images.

    Raises:
        ValueError: no images.
    """
    found: dict[str, dict[str, list[Tensor]]] = {}

    def note(whose: str, **figures: Tensor) -> None:
        for name, values in figures.items():
            found.setdefault(whose, {}).setdefault(name, []).append(values.double().cpu())

    models = {"translation": model} | ({} if beside is None else {"beside": beside})
    top, count = spec.levels - 1, 0
    for batch in batches:
        source = batch.source
        if source is None:
            raise ValueError("the images have no sources to be translated")
        made = {}
        for whose, net in models.items():
            with torch.random.fork_rng(enabled=whose != "translation"):  # ours are what they are alone
                made[whose] = net.translate(source)
        if watch is not None:
            watch(batch, made)
        count += len(source)
        a, x = source.double() / top, batch.x.double() / top
        for whose, net in models.items():
            y = made[whose].double() / top
            if a.shape[2:] == y.shape[2:]:
                note(whose, alike=correlation(a.mean(1), y.mean(1)))
            if isinstance(net, TranslatesBack):
                with torch.random.fork_rng(enabled=whose != "translation"):
                    back = net.translate_back(made[whose]).double() / top
                note(whose, cycle=(back - a).abs().flatten(1).mean(1))
            note(whose, **colours(y))
            if truth:
                note(whose, **distances(y, x))
        if not truth:
            continue
        note("truth", **colours(x))
        if a.shape[2:] == x.shape[2:] and a.shape[1] in (1, x.shape[1]):
            note("source", **distances(a.expand_as(x), x))
    if not count:
        raise ValueError("there are no images to translate")
    each = {w: {n: torch.cat(parts) for n, parts in figures.items()} for w, figures in found.items()}
    ours = each.get("translation", {})
    return Translation(
        count,
        {w: {n: float(v.mean()) for n, v in figures.items()} for w, figures in each.items()},
        {
            w: {n: float(v.std()) / math.sqrt(count) if count > 1 else math.nan for n, v in figures.items()}
            for w, figures in each.items()
        },
        {
            (name, whose): share(ours[name], each[whose][name])
            for name, whose in _SHARES
            if name in ours and name in each.get(whose, {})
        },
    )


def share(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The mean of `a` over that of `b`, [N] of the same images each, and its standard error [4]; NaN by 0."""
    if not float(b.mean()):
        return math.nan, math.nan
    found = float(a.mean() / b.mean())
    error = float((a - found * b).std() / b.mean().abs()) / math.sqrt(len(a)) if len(a) > 1 else math.nan
    return found, error


def distances(y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """{L1, PSNR in dB, SSIM} of each image y from its truth x, [B, C, H, W] in 0 to 1: [B] each."""
    square = (y - x).square().flatten(1).mean(1)
    return {
        "l1": (y - x).abs().flatten(1).mean(1),
        "psnr": -10 * square.clamp_min(1e-10).log10(),  # at most 100 dB, of equal images
        "ssim": structural_similarity(y, x),
    }


def structural_similarity(y: Tensor, x: Tensor) -> Tensor:
    """SSIM [1] equation 13, averaged over places and channels: y, x [B, C, H, W] in 0 to 1 -> [B].

    A Gaussian window of 11x11 with deviation 1.5, cut to images that are smaller; places where it fits.
    """
    sides = [min(_WINDOW, side) for side in x.shape[2:]]
    height, width = (_gaussian(side, x) for side in sides)
    window = (height[:, None] * width)[None, None]

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z.flatten(0, 1)[:, None], window)

    m_y, m_x = mean(y), mean(x)
    v_y, v_x, c = mean(y * y) - m_y**2, mean(x * x) - m_x**2, mean(x * y) - m_x * m_y
    c1, c2 = _K1**2, _K2**2
    found = (2 * m_x * m_y + c1) * (2 * c + c2) / ((m_x**2 + m_y**2 + c1) * (v_x + v_y + c2))
    return found.view(len(x), -1).mean(1)


def _gaussian(size: int, like: Tensor) -> Tensor:
    at = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = torch.exp(-at.square() / (2 * _SIGMA**2))
    return weights / weights.sum()


def colours(x: Tensor) -> dict[str, Tensor]:
    """{colourfulness, chroma} of images [B, 3, H, W] in 0 to 1: [B] each; nothing of others."""
    return {"colourfulness": colourfulness(x), "chroma": chroma(x)} if x.shape[1] == 3 else {}


def chroma(x: Tensor) -> Tensor:
    """The mean over pixels of [3]'s chroma, the distance of a colour from the grey of its lightness: [B].

    Of sRGB images [B, 3, H, W] in 0 to 1, in units of L*a*b*: 0 is grey, pure red 104.6. Unlike colourfulness
    it does not grow where pixels differ from one another, only where they differ from grey.
    """
    linear = torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    matrix = _XYZ.to(x) / _XYZ.to(x).sum(1, keepdim=True)  # relative to white
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear)
    root = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    f_x, f_y, f_z = root.unbind(1)
    return torch.hypot(500 * (f_x - f_y), 200 * (f_y - f_z)).flatten(1).mean(1)


def colourfulness(x: Tensor) -> Tensor:
    """[2] equation 16 of images [B, C, H, W] in 0 to 1, in units of 255: [B]; 0 of grey ones."""
    if x.shape[1] != 3:
        return x.new_zeros(len(x))
    r, g, b = (255 * channel for channel in x.unbind(1))  # [B, H, W]
    one, other = (r - g).flatten(1), ((r + g) / 2 - b).flatten(1)
    spread = (one.var(1, correction=0) + other.var(1, correction=0)).sqrt()
    return spread + 0.3 * (one.mean(1).square() + other.mean(1).square()).sqrt()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, over the pixels of each of two images, [B, H, W] each -> [B]; 0 of an image without any."""
    a, b = (z.flatten(1) - z.flatten(1).mean(1, keepdim=True) for z in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
