"""A network as a list of simple steps over flat arrays, which a page computes.

It is taken from the graph that torch.export gives for one image. What depends on weights alone is computed
here, once. Whatever only moves numbers (a view, a permutation, padding, enlarging, joining) becomes one kind
of step: it is run on the numbers of the places, and what comes out says which number goes where.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentrain.pages.operations import Operations
from gentrain.pages.values import Unknown, Value, examples_of, in_base64, name_of, plain, strided, values_in

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


class Program(Operations):
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
