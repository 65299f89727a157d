"""Networks as a page's steps: what becomes one, what is refused, and what it costs in words."""

from __future__ import annotations

import pytest
import torch

from gentrain.commands.to_onnx import quiet
from gentrain.pages.explore import millions
from gentrain.pages.program import Program
from gentrain.pages.values import Unknown


class States(torch.nn.Module):
    """The states of a recurrent network, without the last one by itself."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.reads = torch.nn.GRU(4, 5, layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reads(x)[0]


def program(layers: int) -> Program:
    x = torch.zeros(1, 3, 4)
    with quiet(), torch.no_grad():
        graph = torch.export.export(States(layers).eval(), (x,), strict=False).run_decompositions({})
    return Program(graph, (x,))


def test_a_recurrent_unit_is_one_step() -> None:
    found = program(1)
    assert [(step["f"], step["t"], step["e"], step["h"], step["n"]) for step in found.steps] == [
        ("gru", 3, 4, 5, 15)
    ]
    assert found.cost == 3 * 3 * 5 * (4 + 5), "steps, gates, their size and what they read"


def test_what_a_page_does_not_compute_is_named() -> None:
    with pytest.raises(Unknown, match="gru of several layers"):
        program(2)


def test_a_cost_in_words() -> None:
    costs = (0, 18_000, 2_540_000, 12_300_000, 1_234_567_890)
    assert [millions(cost) for cost in costs] == ["0", "0.018", "2.5", "12", "1,235"]
