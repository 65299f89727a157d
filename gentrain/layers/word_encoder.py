"""From the words of a caption to one vector.

[1] Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", arXiv:1406.1078, section 2.3: the gated recurrent unit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordEncoder(nn.Module):
    """A vector for each word, read in order by a gated recurrent unit [1]; the mean of its states.

    Padding is not read: a caption has one vector, however long others are. In float32 at least, for the
    states of many words add up.

    Args:
        words: how many words there are; they are 1 to `words`, 0 pads, at a caption's end.
        size: E, numbers of the vector, and of each word's.

    [B, T] -> [B, E]; of several captions each, [B, K, T], the mean of their vectors.
    """

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.words = nn.Embedding(words + 1, size, padding_idx=0)
        self.reads = nn.GRU(size, size, batch_first=True)

    def forward(self, y: Tensor) -> Tensor:
        """y int64 [B, T] or [B, K, T] -> [B, E]."""
        if y.ndim == 3:
            found: Tensor = self(y.flatten(0, 1)).unflatten(0, y.shape[:2]).mean(1)
            return found
        with torch.autocast(y.device.type, enabled=False):
            states, _ = self.reads(self.words(y))  # [B, T, E]
            there = (y != 0).unsqueeze(2).to(states.dtype)  # [B, T, 1]
            mean: Tensor = (states * there).sum(1) / there.sum(1).clamp_min(1)
            return mean
