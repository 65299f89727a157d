"""A tree of systems, each leaf with what it drew, what it reached and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gentrain.pages.page import data_uri, rendered


@dataclass(frozen=True)
class Leaf:
    """One system in the tree.

    Args:
        name: short, an address within the page.
        branch: the inner nodes above it, from the top.
        equation, says: what it computes, and in two sentences what it does and costs.
        paper, address: where it is from.
        facts: {name: text}, in order.
        command: that trains it.
        shown: what the pictures are: samples, or what else it makes.
        pictures: a PNG of them.
        real: a PNG of as many real images.
        trouble: why there are none of all these.
    """

    name: str
    branch: Sequence[str]
    equation: str
    says: str
    paper: str
    address: str
    command: str = ""
    facts: dict[str, str] | None = None
    shown: str = "samples"
    pictures: bytes = b""
    real: bytes = b""
    trouble: str = ""


def tree_of(leaves: Sequence[Leaf], depth: int = 0) -> list[dict[str, Any]]:
    """The leaves as nodes within nodes, in order: {"name", "id", "nodes" or "leaves"}."""
    found: list[dict[str, Any]] = []
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(leaf.branch[depth], []).append(leaf)
    for name, inside in groups.items():
        node: dict[str, Any] = {"name": name, "id": "-".join("-".join(inside[0].branch[: depth + 1]).split())}
        last = depth + 1 == len(inside[0].branch)
        node["leaves" if last else "nodes"] = list(inside) if last else tree_of(inside, depth + 1)
        found.append(node)
    return found


def taxonomy_page(leaves: Sequence[Leaf], data: str, docs: str, made: str) -> str:
    """The page.

    Args:
        leaves: all of them, in order.
        data: what the systems were trained on, in words.
        docs: address of the page of docs that tells more of each.
        made: when, where and by what, in words.
    """
    uris = {leaf.name: (data_uri(leaf.real), data_uri(leaf.pictures)) for leaf in leaves if leaf.pictures}
    return rendered(
        "taxonomy", tree=tree_of(leaves), uris=uris, count=len(leaves), data=data, docs=docs, made=made
    )
