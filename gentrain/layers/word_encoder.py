"""From the words of a caption to one vector.

[1] Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", arXiv:1406.1078, section 2.3: the gated recurrent unit.
[2] Bahdanau, Cho & Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
    arXiv:1409.0473, section 3.2: read forwards and backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordEncoder(nn.Module):
    """A vector for each word, read in order by a gated recurrent unit [1]; the mean of its states.

    Padding is not read: a caption has one vector, however long others are. In float32 at least, for the
    states of many words add up. Read forwards alone, a word is known by those before it, and means something
    else where they are new; read both ways, the last word is known by itself as well.

    Args:
        words: how many words there are; they are 1 to `words`, 0 pads, at a caption's end.
        size: E, numbers of the vector, and of each word's.
        both_ways: half of E is of the words read backwards, by another gated recurrent unit [2].

    [B, T] -> [B, E]; of several captions each, [B, K, T], the mean of their vectors.
    """

    def __init__(self, words: int, size: int, both_ways: bool) -> None:
        super().__init__()
        self.size = size
        self.words = nn.Embedding(words + 1, size, padding_idx=0)
        backwards = size // 2 if both_ways else 0
        self.reads = nn.GRU(size, size - backwards, batch_first=True)
        self.reads_backwards = nn.GRU(size, backwards, batch_first=True) if backwards else None

    def forward(self, y: Tensor) -> Tensor:
        """y int64 [B, T] or [B, K, T] -> [B, E]."""
        if y.ndim == 3:
            found: Tensor = self(y.flatten(0, 1)).unflatten(0, y.shape[:2]).mean(1)
            return found
        with torch.autocast(y.device.type, enabled=False):
            states = self.reads(self.words(y))[0]  # [B, T, E]
            if self.reads_backwards is not None:
                backwards = self.reads_backwards(self.words(_turned(y)))[0]
                states = torch.cat([states, backwards], 2)
            there = (y != 0).unsqueeze(2).to(states.dtype)  # [B, T, 1]
            mean: Tensor = (states * there).sum(1) / there.sum(1).clamp_min(1)
            return mean


def _turned(y: Tensor) -> Tensor:
    """The words of each caption in the other order, and padding still at the end: int64 [B, T]."""
    places = torch.arange(y.shape[1], device=y.device)
    wanted = (y != 0).sum(1, keepdim=True) - 1 - places  # [B, T], below 0 where there is none
    # A sum over places rather than a gather, which pages of `gentrain explore` do not compute.
    return ((wanted[:, :, None] == places) * y[:, None]).sum(2)
