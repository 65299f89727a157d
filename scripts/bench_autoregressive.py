"""Drawing and training autoregressive models at published sizes: `python scripts/bench.py sample`."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from gentrain.api import compose_train
from gentrain.building import build_model
from gentrain.contracts import Batch, DataSpec


@dataclass(frozen=True)
class Size:
    """A network as published.

    Args:
        name: in the table.
        settings: of `gentrain`.
        shape: of the images.
        levels: of a pixel.
        drawn: how many images are drawn.
        rate: of sound, in Hz; 0: images.
        seconds: for those at most; None: four times one forward pass of them.
        rates: images/s of training that are wanted, in float32 and bf16; None: none is.
        batch: images per step.
        times: a step in float32 takes at most so many times what its products and convolutions take alone.
    """

    name: str
    settings: tuple[str, ...]
    shape: tuple[int, int, int] = (1, 28, 28)
    levels: int = 2
    drawn: int = 16
    rate: int = 0
    seconds: float | None = None
    rates: tuple[float, float] | None = None
    batch: int = 16
    times: float | None = None

    def model(self) -> Any:
        """With weights of the first step."""
        torch.manual_seed(0)
        sound = {"sample_rate": self.rate, "context": 0} if self.rate else {}
        spec = DataSpec(shape=self.shape, levels=self.levels, **sound)
        return build_model(compose_train([*self.settings, "dataset=mnist"]).model, spec)


#: Beside them the nearest public implementation on two cores: gated 6.2 and made 1,009 images/s
#: in training, 525 and 12.7 s for 16 images.
SIZES = [
    Size("pixelcnn 15x32", ("model=pixelcnn",), seconds=0.1),
    Size(
        "gated 10x128",
        ("model=gated_pixelcnn", "model.channels=128", "model.depth=10"),
        seconds=2.0,
        rates=(1.4 * 6.2, 2.5 * 6.2),
    ),
    Size(
        "made 1x8000",
        ("model=made", "model.hidden=[8000]", "model.order=random"),
        seconds=0.4,
        rates=(1.4 * 1009, 1.4 * 1009),
        batch=512,
    ),
    Size("nade 500", ("model=nade",), seconds=0.4, batch=512),
    Size("fvbn", ("model=fvbn",), seconds=0.4, batch=512),
    Size("row_lstm 12x16", ("model=row_lstm", "model.hidden=16", "model.depth=12"), batch=64, times=2.0),
    Size("diagonal 7x16", ("model=diagonal_bilstm", "model.hidden=16", "model.depth=7"), batch=64, times=2.0),
    Size("diagonal 2x32", ("model=diagonal_bilstm", "model.hidden=32", "model.depth=2"), batch=64, times=2.0),
    Size(
        "pixelcnnpp 2x40",
        ("model=pixelcnnpp", "model.channels=40", "model.depth=2"),
        shape=(3, 32, 32),
        levels=256,
    ),
    # A second of sound, 64 at once.
    Size(
        "wavenet 20x32",
        ("model=wavenet",),
        shape=(1, 1, 8000),
        levels=256,
        drawn=64,
        rate=8000,
        seconds=15.0,
        batch=8,
    ),
]


def in_place(_: Any, a: Any, b: Any, **options: Any) -> int:
    """Operations of `addmm_`, a [m, k] times b [k, n] added; of their shapes."""
    return 2 * a[0] * a[1] * b[1]


#: Products in place, which torch's counter does not know.
IN_PLACE = {torch.ops.aten.addmm_: in_place}


class Products(TorchDispatchMode):
    """Keeps the products of matrices and the convolutions that are computed within, to do them once more."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in flop_registry or func.overloadpacket in IN_PLACE:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        """All of them, and nothing else."""
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def matrix_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 7) -> float:
    """Operations per second of products of square matrices, the median of some."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def median_of(run: Any, repeats: int) -> float:
    """Seconds of one run."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def chosen(arguments: argparse.Namespace) -> list[Size]:
    """Those whose name has what `--only` says."""
    return [size for size in SIZES if arguments.only in size.name]


def bench_sample(arguments: argparse.Namespace) -> bool:
    """Seconds for 16 images or 64 sounds, beside one forward pass of them and the naive sampler.

    The naive sampler runs the network once for each pixel value: so many times one pass, which is measured.
    That both draw the same images is a test's business; here, of the PixelCNN, as well.
    """
    reached = True
    for size in chosen(arguments):
        model = size.model().eval()
        noise = torch.rand(size.drawn, *size.shape)
        with torch.inference_mode():
            x = 2 * noise[:16] - 1 if not size.rate else 2 * noise[:4] - 1  # long ones fill the memory
            model.params(x)
            forward = median_of(lambda model=model, x=x: model.params(x), arguments.repeats)
            forward *= size.drawn / len(x)
        model.sample_from(noise[:1])
        seconds = median_of(lambda model=model, noise=noise: model.sample_from(noise), arguments.repeats)
        naive = model.spec.dims * forward
        wanted = size.seconds or 4 * forward
        print(
            f"{size.name:<16} {size.drawn} of {'x'.join(map(str, size.shape))}   {seconds:6.2f} s   "
            f"one pass {forward:5.3f} s   naive {naive:6.1f} s, {naive / seconds:4.0f} times   "
            f"(wanted: at most {wanted:.2f} s){'' if seconds <= wanted else '   MISSED'}"
        )
        reached &= seconds <= wanted
    model = SIZES[0].model().eval()
    noise = torch.rand(64, *SIZES[0].shape)
    few, many = (median_of(lambda n=n: model.sample_from(noise[:n]), arguments.repeats) for n in (16, 64))
    same = torch.equal(model.sample_from(noise[:4]), model.sample_from(noise[:4], naive=True))
    print(f"{SIZES[0].name}: 64 images {many:.2f} s, {many / few:.1f} times as long as 16; ", end="")
    print(f"the naive sampler's images: {'yes' if same else 'NO'}")
    return reached and same


def bench_autoregressive(arguments: argparse.Namespace) -> bool:
    """Images per second of forward and backward, and the share of the machine's rate of matrix products.

    Of the LSTMs, whose products are small, also a step's time in times of what its products take alone.
    """
    reached = True
    for size in chosen(arguments):
        model = size.model()
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(size.levels, (size.batch, *size.shape), generator=generator).to(torch.uint8)
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            model.loss(Batch(x), 0)[0].backward()
        operations = counter.get_total_flops() / size.batch
        for which, dtype in enumerate((torch.float32, torch.bfloat16)):

            def step(model: Any = model, x: Any = x, dtype: torch.dtype = dtype) -> None:
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    loss, _ = model.loss(Batch(x), 0)
                loss.backward()
                model.zero_grad()

            step()
            rate = size.batch / median_of(step, arguments.repeats)
            wanted = size.rates[which] if size.rates else 0.0
            print(
                f"{size.name:<16} {str(dtype).removeprefix('torch.'):<8} {rate:8.1f} images/s   "
                f"{rate * operations / matrix_rate(dtype):4.0%} of the rate of matrix products"
                + (f"   (wanted: at least {wanted:.1f})" if wanted else "")
                + ("" if rate >= wanted else "   MISSED")
            )
            reached &= rate >= wanted
            if which == 0 and size.times is not None:
                with Products() as products:
                    step()
                times = statistics.median(
                    median_of(step, 1) / median_of(products.again, 1) for _ in range(arguments.repeats)
                )
                print(
                    f"{'':<16} {times:.2f} times what the {len(products.calls):,} products and convolutions "
                    f"of a step take alone   (wanted: at most {size.times:.2f})"
                    + ("" if times <= size.times else "   MISSED")
                )
                reached &= times <= size.times
    return reached
