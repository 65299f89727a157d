"""A network as a list of simple steps over flat arrays, which a page computes.

It is taken from the graph that torch.export gives for one image. What depends on weights alone is computed
here, once. Whatever only moves numbers (a view, a permutation, padding, enlarging, joining) becomes one kind
of step: it is run on the numbers of the places, and what comes out says which number goes where.
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Functions of one number that a page knows, by torch's names; the numbers in a call go with them.
UNARY = {
    *("neg", "exp", "log", "sigmoid", "tanh", "relu", "silu", "gelu", "sqrt", "rsqrt", "abs", "floor"),
    *("round", "trunc", "elu", "leaky_relu", "softplus", "clamp", "clamp_min", "clamp_max", "logical_not"),
    *("bitwise_not", "reciprocal", "erf", "special_log_ndtr", "log_sigmoid", "log1p", "expm1"),
}
#: Functions of two.
BINARY = {
    *(
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "remainder",
        "eq",
        "ne",
        "gt",
        "lt",
        "ge",
        "le",
        "maximum",
        "minimum",
    ),
}
#: What only moves numbers.
MOVES = {
    *("view", "_unsafe_view", "reshape", "unflatten", "flatten", "alias", "clone", "contiguous", "permute"),
    *("transpose", "movedim", "unsqueeze", "squeeze", "expand", "expand_as", "broadcast_tensors", "chunk"),
    *("split", "split_with_sizes", "slice", "select", "narrow", "flip", "pad", "constant_pad_nd", "cat"),
    *("stack", "upsample_nearest2d", "repeat", "repeat_interleave", "pixel_shuffle", "slice_scatter"),
    *(
        "select_scatter",
        "index_select",
        "roll",
        "t",
        "detach",
        "copy",
        "lift_fresh_copy",
        "unbind",
        "getitem",
    ),
}
#: What gives numbers that depend on no input but its shape.
SHAPED = {
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
}
#: What changes nothing where nothing is learnt.
NOTHING = {"dropout", "to", "_to_copy", "type_as", "float", "double"}


class Unknown(Exception):
    """An operation that a page does not compute; the message names it."""


class Value:
    """What depends on the inputs: a place in the page's memory, and an example of it."""

    def __init__(self, place: int, example: Tensor) -> None:
        self.place, self.example = place, example

    @property
    def shape(self) -> list[int]:
        """Of the example."""
        return list(self.example.shape)


class Program:
    """Steps, the constants that they read, and what they cost.

    Args:
        graph: of torch.export, for one image: its inputs' first dimension is 1.
        inputs: the tensors that it was made for.

    Attributes:
        steps: {"f": function, "i": places read, "o": place written, "n": numbers written, ...}, in order.
        output: the place of the result.
        cost: multiplications, each with its addition, for an image; a function of a number counts as one.

    Raises:
        Unknown: it has an operation that a page does not compute.
    """

    def __init__(self, graph: torch.export.ExportedProgram, inputs: Sequence[Tensor]) -> None:
        self.steps: list[dict[str, Any]] = []
        self.constants: dict[int, Tensor] = {}
        self._tables: list[np.ndarray] = []
        self._next = 0
        self.inputs = [self._value(x) for x in inputs]
        self.output = self._run(graph.module(), self.inputs)
        self._prune()
        self.cost = sum(step["c"] for step in self.steps)

    # Running

    def _value(self, example: Tensor) -> Value:
        self._next += 1
        return Value(self._next - 1, example)

    def _run(self, module: Any, inputs: Sequence[Any]) -> Value:
        found: dict[Any, Any] = {}
        waiting = iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                found[node] = next(waiting)
            elif node.op == "get_attr":
                found[node] = operator.attrgetter(node.target)(module)
            elif node.op == "call_function":
                args = torch.fx.node.map_arg(node.args, found.__getitem__)
                settings = torch.fx.node.map_arg(node.kwargs, found.__getitem__)
                found[node] = self._call(node.target, args, settings)
            elif node.op == "output":
                args = torch.fx.node.map_arg(node.args, found.__getitem__)
                while isinstance(args, (tuple, list)):
                    (args,) = args
                return args
        raise Unknown("a graph without an output")

    def _call(self, target: Any, args: Any, settings: Any) -> Any:
        name = name_of(target)
        read = values_in([args, settings])
        if not read:
            return None if name.startswith(("_assert", "sym_")) else target(*args, **settings)
        if name.startswith("_assert"):
            return None
        if name.startswith("wrap_with"):  # autocast and the like: what is within, as it is
            inner = next(arg for arg in args if isinstance(arg, torch.fx.GraphModule))
            return [self._run(inner, args[list(args).index(inner) + 1 :])]
        example = target(*examples_of(args), **examples_of(settings))
        if name in SHAPED:
            return example if "empty" not in name else torch.zeros_like(example)
        if name == "getitem" and not isinstance(args[0], Value):
            return args[0][args[1]]
        if name in NOTHING:
            return self._cast(args[0], example)
        special: Callable[..., Any] | None = getattr(self, f"_do_{name}", None)
        if special is not None:
            return special(example, *args, **settings)
        if name in UNARY:
            numbers = [arg for arg in args[1:] if not isinstance(arg, str)] + list(settings.values())
            return self._step(name, [args[0]], example, p=[plain(number) for number in numbers])
        if name in BINARY:
            if settings.get("alpha", 1) != 1 or settings.get("rounding_mode"):
                raise Unknown(f"{name} with {settings}")
            return self._step(name, [self._spread(arg, example) for arg in args[:2]], example)
        if name in MOVES:
            return self._move(target, args, settings, read)
        raise Unknown(name)

    def _step(
        self, name: str, read: Sequence[Any], example: Tensor, cost: int | None = None, **more: Any
    ) -> Value:
        """One more step; what it reads may be values, tensors and numbers."""
        to = self._value(example)
        places = [self._place(arg) for arg in read]
        step = {"f": name, "i": places, "o": to.place, "n": example.numel(), **more}
        self.steps.append({**step, "c": example.numel() if cost is None else cost})
        return to

    def _place(self, arg: Any) -> int:
        if isinstance(arg, Value):
            return arg.place
        tensor = arg if isinstance(arg, Tensor) else torch.tensor(float(arg))
        self._next += 1
        self.constants[self._next - 1] = tensor.detach().cpu().float().contiguous()
        return self._next - 1

    # Moving

    def _move(self, target: Any, args: Any, settings: Any, read: Sequence[Value]) -> Any:
        """Run on the numbers of the places: 1, 2, ... over all that is read; 0 is a zero that is put in."""
        sources: list[Any] = []
        begins: list[int] = []
        size = 1

        def numbered(arg: Any) -> Any:
            nonlocal size
            if isinstance(arg, (Value, Tensor)):
                shown = arg.example if isinstance(arg, Value) else arg
                if isinstance(arg, Tensor) and not arg.is_floating_point() and name_of(target) != "cat":
                    return arg  # an index
                sources.append(arg)
                begins.append(size)
                size += shown.numel()
                return torch.arange(begins[-1], size, dtype=torch.float64).view(shown.shape)
            if isinstance(arg, (list, tuple)):
                return [numbered(one) for one in arg]
            return arg

        if name_of(target) in ("pad", "constant_pad_nd") and (
            any(args[2:] and (args[-1] not in (None, 0, "constant"),)) or settings.get("value")
        ):
            raise Unknown("padding with something else than zeros")
        moved = target(*numbered(tuple(args)), **{key: numbered(arg) for key, arg in settings.items()})
        example = target(*examples_of(args), **examples_of(settings))
        if isinstance(moved, Tensor):
            return self._gather(sources, begins, moved, example)
        return [self._gather(sources, begins, a, b) for a, b in zip(moved, example, strict=True)]

    def _gather(self, sources: Sequence[Any], begins: Sequence[int], where: Tensor, example: Tensor) -> Any:
        flat = where.flatten().long()
        first = torch.bucketize(flat, torch.tensor(begins), right=True) - 1  # -1: a zero
        used = sorted(set(first.tolist()) - {-1})
        if len(used) == 1 and not isinstance(sources[used[0]], Value) and int(first.min()) >= 0:
            return example  # of a constant alone
        if len(used) == 1 and int(first.min()) >= 0:
            source = sources[used[0]]
            flat = flat - begins[used[0]]
            if flat.numel() == source.example.numel() and torch.equal(flat, torch.arange(len(flat))):
                return Value(source.place, example)
            if (strides := strided(flat, example.shape)) is not None:
                return self._step(
                    "stride", [source], example, s=list(example.shape), t=strides[1], b=strides[0]
                )
        # Places count over what is used, one after the other, from 1.
        sizes = {i: (s.example if isinstance(s, Value) else s).numel() for i, s in enumerate(sources)}
        shift, begin = torch.zeros(len(sources) + 1, dtype=torch.long), 1
        for i in used:
            shift[i] = begin - begins[i]
            begin += sizes[i]
        table = torch.where(first < 0, 0, where.flatten().long() + shift[first])
        self._tables.append(table.numpy().astype(np.int32))
        return self._step("gather", [sources[i] for i in used], example, t=len(self._tables) - 1)

    def _spread(self, arg: Any, example: Tensor) -> Any:
        """An operand in the shape of the result; a single number stays one."""
        if not isinstance(arg, (Value, Tensor)):
            return arg
        shown = arg.example if isinstance(arg, Value) else arg
        if shown.numel() == 1 or shown.shape == example.shape:
            return arg
        where = torch.arange(shown.numel()).view(shown.shape).expand(example.shape)
        if shown.numel() == example.numel():
            return Value(arg.place, example) if isinstance(arg, Value) else arg
        found = strided(where.flatten(), example.shape)
        assert found is not None
        return self._step(
            "stride", [arg], shown.float().expand(example.shape), s=list(example.shape), t=found[1], b=0
        )

    def _last(self, x: Value, dims: Sequence[int]) -> tuple[Value, int]:
        """`x` with the dimensions `dims` after the others, and how many numbers they have."""
        dims = sorted(dim % x.example.ndim for dim in dims)
        order = [dim for dim in range(x.example.ndim) if dim not in dims] + dims
        count = int(np.prod([x.shape[dim] for dim in dims]))
        return self._call(torch.ops.aten.permute.default, (x, order), {}), count

    # One by one

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

    def _do_avg_pool2d(self, example: Tensor, x: Value, size: Any, stride: Any = (), *rest: Any) -> Value:
        if tuple(two(stride or size)) != tuple(two(size)) or any(rest[:1] and two(rest[0])):
            raise Unknown("avg_pool2d that overlaps")
        high, wide = two(size)
        channels, h, w = x.shape[1:]
        parts = self._call(
            torch.ops.aten.view.default, (x, [1, channels, h // high, high, w // wide, wide]), {}
        )
        return self._do_mean(example, parts, [3, 5])

    # What is kept

    def _prune(self) -> None:
        """Leave out what the result does not need, and keep a constant that is there twice once."""
        needed, kept = {self.output.place}, []
        for step in reversed(self.steps):
            if step["o"] in needed:
                needed |= set(step["i"])
                kept.append(step)
        self.steps = kept[::-1]
        same: dict[tuple[Any, bytes], int] = {}
        renamed: dict[int, int] = {}
        for place in sorted(set(self.constants) & needed):
            tensor = self.constants[place]
            renamed[place] = same.setdefault((tensor.numel(), tensor.numpy().tobytes()), place)
        self.constants = {place: self.constants[place] for place in set(renamed.values())}
        for step in self.steps:
            step["i"] = [renamed.get(place, place) for place in step["i"]]

    def packed(self, half: bool) -> dict[str, Any]:
        """All of it as JSON knows it; the numbers in base64, of 16 bits each if `half`, else of 32."""
        tables = [step["t"] for step in self.steps if step["f"] == "gather"]
        order = {old: new for new, old in enumerate(dict.fromkeys(tables))}
        steps = [
            {**step, "t": order[step["t"]]} if step["f"] == "gather" else dict(step) for step in self.steps
        ]
        for step in steps:
            del step["c"]
        numbers = [tensor.numpy().ravel() for tensor in self.constants.values()]
        flat = np.concatenate(numbers) if numbers else np.zeros(0, np.float32)
        kind = "<f2" if half else "<f4"
        places = np.concatenate([self._tables[i] for i in order]) if order else np.zeros(0, np.int32)
        return {
            "half": half,
            "constants": [[place, tensor.numel()] for place, tensor in self.constants.items()],
            "numbers": in_base64(flat.astype(kind).tobytes()),
            "tables": [len(self._tables[i]) for i in order],
            "places": in_base64(places.astype("<i4").tobytes()),
            "steps": steps,
            "inputs": [value.place for value in self.inputs],
            "output": self.output.place,
        }


def name_of(target: Any) -> str:
    """`conv2d` of aten.conv2d.default."""
    name = str(getattr(target, "__name__", target))
    packet = getattr(target, "overloadpacket", None)
    return str(packet).rpartition(".")[2] if packet is not None else name


def values_in(args: Any) -> list[Value]:
    """All that depend on the inputs, wherever in the arguments."""
    if isinstance(args, Value):
        return [args]
    if isinstance(args, dict):
        args = list(args.values())
    return [value for arg in args for value in values_in(arg)] if isinstance(args, (list, tuple)) else []


def examples_of(args: Any) -> Any:
    """The arguments, with an example in place of each value."""
    if isinstance(args, Value):
        return args.example
    if isinstance(args, dict):
        return {key: examples_of(arg) for key, arg in args.items()}
    if isinstance(args, (list, tuple)):  # torch.fx has a list of its own, which torch's operations refuse
        return [examples_of(arg) for arg in args]
    return args


def strided(places: Tensor, shape: Sequence[int]) -> tuple[int, list[int]] | None:
    """(first, steps along each dimension) that give `places` [N] of an array of `shape`; None: no such."""
    begin = int(places[0]) if len(places) else 0
    grid = places.view(list(shape))
    steps = []
    for dim, size in enumerate(shape):
        next_one = [0] * len(shape)
        next_one[dim] = 1
        steps.append(int(grid[tuple(next_one)]) - begin if size > 1 else 0)
    whole = torch.full(list(shape), begin)
    for dim, size in enumerate(shape):
        along = [1] * len(shape)
        along[dim] = size
        whole = whole + steps[dim] * torch.arange(size).view(along)
    return (begin, steps) if torch.equal(whole, grid.long()) else None


def constant(arg: Any, name: str) -> Any:
    """A tensor of weights.

    Raises:
        Unknown: it depends on the inputs.
    """
    if isinstance(arg, Value):
        raise Unknown(f"{name} with weights that depend on the latents")
    return arg


def two(number: Any) -> list[int]:
    """A setting for both dimensions."""
    found = [number, number] if isinstance(number, int) else list(number)
    return found * 2 if len(found) == 1 else found


def plain(number: Any) -> Any:
    """A setting of a function as JSON knows it."""
    return number if number is None or isinstance(number, (bool, int, float)) else float(number)


def in_base64(content: bytes) -> str:
    """As text."""
    return base64.b64encode(content).decode("ascii")
