"""Operations of torch that are more than a function of one or two numbers, each as a page's steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentrain.pages.values import Unknown, Value, constant, two


class Operations(ABC):
    """`_do_NAME(example, *arguments)` for each: `example` is what torch gives for the arguments."""

    @abstractmethod
    def _call(self, target: Any, args: Any, settings: Any) -> Any:
        """What an operation of torch gives for these arguments, as steps."""

    @abstractmethod
    def _step(
        self, name: str, read: Sequence[Any], example: Tensor, cost: int | None = None, **more: Any
    ) -> Value:
        """One step of the page."""

    @abstractmethod
    def _spread(self, arg: Any, example: Tensor) -> Any:
        """`arg` at the shape of `example`."""

    def _last(self, x: Value, dims: Sequence[int]) -> tuple[Value, int]:
        """`x` with the dimensions `dims` after the others, and how many numbers they have."""
        dims = sorted(dim % x.example.ndim for dim in dims)
        order = [dim for dim in range(x.example.ndim) if dim not in dims] + dims
        count = int(np.prod([x.shape[dim] for dim in dims]))
        return self._call(torch.ops.aten.permute.default, (x, order), {}), count

    def _cast(self, x: Value, example: Tensor) -> Value:
        whole = x.example.is_floating_point() and not example.is_floating_point()
        if whole and example.dtype == torch.bool:
            return self._step("ne", [x, 0.0], example)
        return self._step("trunc", [x], example, p=[]) if whole else Value(x.place, example)

    def _do_linear(self, example: Tensor, x: Value, weight: Any, bias: Any = None) -> Value:
        constant(weight, "linear")
        units, wide = weight.shape
        rows = x.example.numel() // wide
        read = [x, weight, *([] if bias is None else [bias])]
        return self._step("linear", read, example, rows * units * wide, r=rows, k=wide, m=units)

    def _do_mm(self, example: Tensor, x: Value, weight: Any) -> Value:
        return self._do_linear(example, x, constant(weight, "mm").t().contiguous())

    def _do_matmul(self, example: Tensor, x: Value, weight: Any) -> Value:
        if constant(weight, "matmul").ndim != 2:
            raise Unknown("matmul of more than a matrix")
        return self._do_mm(example, x, weight)

    def _do_addmm(self, example: Tensor, bias: Any, x: Value, weight: Any) -> Value:
        return self._do_linear(
            example, x, constant(weight, "addmm").t().contiguous(), constant(bias, "addmm")
        )

    def _do_conv2d(
        self, example: Tensor, x: Value, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Value:  # fmt: skip
        out, inner, high, wide = constant(weight, "conv2d").shape
        if isinstance(padding, str):
            raise Unknown(f"padding {padding}")
        cost = example.numel() * inner * high * wide
        read = [x, weight, *([] if bias is None else [bias])]
        how = {
            "st": two(stride),
            "pa": two(padding),
            "di": two(dilation),
            "g": groups,
            "w": [out, inner, high, wide],
        }
        return self._step("conv2d", read, example, cost, x=x.shape[1:], y=list(example.shape[1:]), **how)

    def _do_conv_transpose2d(
        self, example: Tensor, x: Value, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Value:  # fmt: skip
        inner, out, high, wide = constant(weight, "conv_transpose2d").shape
        cost = x.example.numel() * out * high * wide
        read = [x, weight, *([] if bias is None else [bias])]
        how = {
            "st": two(stride),
            "pa": two(padding),
            "di": two(dilation),
            "g": groups,
            "w": [inner, out, high, wide],
        }
        return self._step(
            "conv_transpose2d", read, example, cost, x=x.shape[1:], y=list(example.shape[1:]), **how
        )

    def _do_batch_norm(
        self, example: Tensor, x: Value, weight: Any, bias: Any, mean: Any, var: Any, training: bool,
        momentum: float, eps: float, *_: Any,
    ) -> Value:  # fmt: skip
        if training or mean is None:
            raise Unknown("batch_norm with a batch's own statistics")
        scale = (var.double() + eps).rsqrt() * (1 if weight is None else weight.double())
        shift = (0 if bias is None else bias.double()) - mean.double() * scale
        inner = int(np.prod(x.shape[2:]))
        return self._step("affine", [x, scale.float(), shift.float()], example, k=inner)

    def _do__native_batch_norm_legit_no_training(self, example: Any, x: Value, *args: Any) -> Any:
        weight, bias, mean, var, momentum, eps = args
        return [self._do_batch_norm(example[0], x, weight, bias, mean, var, False, momentum, eps)]

    def _do_einsum(self, example: Tensor, equation: str, operands: Sequence[Any]) -> Value:
        """A product with a matrix along the dimension that the two share."""
        most = max(one.example.ndim for one in operands if isinstance(one, Value))
        others = "".join(c for c in "UVWXYZ" if c not in equation)[: most - 2]
        taken, _, given = equation.replace(" ", "").replace("...", others).partition("->")
        names = taken.split(",")
        if len(operands) != 2 or sum(isinstance(one, Value) for one in operands) != 1:
            raise Unknown(f"einsum {equation}")
        moving = 0 if isinstance(operands[0], Value) else 1
        x, matrix, of_x, of_m = operands[moving], operands[1 - moving], names[moving], names[1 - moving]
        (shared,), (new,) = set(of_x) & set(of_m), set(of_m) - set(of_x)
        if len(of_m) != 2 or given.replace(new, "") != of_x.replace(shared, ""):
            raise Unknown(f"einsum {equation}")
        weight = matrix if of_m[1] == shared else matrix.t()
        last, _ = self._last(x, [of_x.index(shared)])
        shape = [*last.shape[:-1], weight.shape[0]]
        product = self._do_linear(last.example.new_zeros(shape), last, weight.contiguous())
        order = of_x.replace(shared, "") + new
        return self._call(torch.ops.aten.permute.default, (product, [order.index(c) for c in given]), {})

    def _do_group_norm(
        self,
        example: Tensor,
        x: Value,
        groups: int,
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Value:
        count = x.example.numel() // groups
        whitened = self._step("whiten", [x], example, 2 * x.example.numel(), k=count, e=eps)
        if weight is None:
            return whitened
        bias = torch.zeros_like(weight) if bias is None else bias
        return self._step("affine", [whitened, weight, bias], example, k=int(np.prod(x.shape[2:])))

    def _do_layer_norm(
        self,
        example: Tensor,
        x: Value,
        shape: Any,
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Value:
        found = self._step("whiten", [x], example, 2 * x.example.numel(), k=int(np.prod(shape)), e=eps)
        for name, operand in (("mul", weight), ("add", bias)):
            if operand is not None:
                found = self._step(name, [found, self._spread(operand, example)], example)
        return found

    def _do_softmax(self, example: Tensor, x: Value, dim: int, *_: Any) -> Value:
        last, count = self._last(x, [dim])
        found = self._step("softmax", [last], last.example.softmax(-1), 3 * example.numel(), k=count)
        order = [d for d in range(x.example.ndim) if d != dim % x.example.ndim] + [dim % x.example.ndim]
        back = [order.index(d) for d in range(x.example.ndim)]
        return self._call(torch.ops.aten.permute.default, (found, back), {})

    _do__softmax = _do_softmax

    def _reduced(self, name: str, example: Tensor, x: Value, dims: Any) -> Value:
        dims = (
            list(range(x.example.ndim)) if dims is None else [dims] if isinstance(dims, int) else list(dims)
        )
        last, count = self._last(x, dims)
        return self._step(name, [last], example, x.example.numel(), k=count)

    def _do_sum(self, example: Tensor, x: Value, dims: Any = None, *_: Any, **__: Any) -> Value:
        return self._reduced("sum", example, x, dims)

    def _do_mean(self, example: Tensor, x: Value, dims: Any = None, *_: Any, **__: Any) -> Value:
        return self._reduced("mean", example, x, dims)

    def _do_logsumexp(self, example: Tensor, x: Value, dims: Any, *_: Any) -> Value:
        return self._reduced("logsumexp", example, x, dims)

    def _do_amax(self, example: Tensor, x: Value, dims: Any = None, *_: Any) -> Value:
        return self._reduced("amax", example, x, dims)

    def _do_where(self, example: Tensor, *args: Any) -> Value:
        return self._step("where", [self._spread(arg, example) for arg in args], example)

    def _do_addcmul(self, example: Tensor, x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
        if value != 1:
            raise Unknown("addcmul with a factor")
        product = self._call(torch.ops.aten.mul.Tensor, (a, b), {})
        return self._call(torch.ops.aten.add.Tensor, (x, product), {})

    def _do_embedding(self, example: Tensor, weight: Any, numbers: Value, *_: Any) -> Value:
        return self._step("embedding", [numbers, constant(weight, "embedding")], example, k=weight.shape[1])

    def _do_gru(
        self, example: Any, x: Value, begin: Any, weights: Sequence[Tensor], biases: bool, layers: int,
        dropout: float, training: bool, both_ways: bool, *_: Any,
    ) -> Any:  # fmt: skip
        """States of all steps; the last one by itself is not given."""
        if layers != 1 or both_ways or not biases:
            raise Unknown("gru of several layers, both ways or without biases")
        states, (wide, size) = example[0], (weights[0].shape[1], begin.shape[-1])
        steps = states.numel() // size
        read = [x, constant(begin, "gru"), *weights]
        cost = steps * 3 * size * (wide + size)
        return [self._step("gru", read, states, cost, t=steps, e=wide, h=size), None]

    def _do_avg_pool2d(self, example: Tensor, x: Value, size: Any, stride: Any = (), *rest: Any) -> Value:
        if tuple(two(stride or size)) != tuple(two(size)) or any(rest[:1] and two(rest[0])):
            raise Unknown("avg_pool2d that overlaps")
        high, wide = two(size)
        channels, h, w = x.shape[1:]
        parts = self._call(
            torch.ops.aten.view.default, (x, [1, channels, h // high, high, w // wide, wide]), {}
        )
        return self._do_mean(example, parts, [3, 5])
