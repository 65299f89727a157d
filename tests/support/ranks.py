"""`gentrain` under torchrun, each rank writing its own weights at the end: ranks.py FOLDER ARGS..."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from gentrain.cli import leave, main
from gentrain.training.trainer import Outcome, Trainer

fit = Trainer.fit
FOLDER, *ARGUMENTS = sys.argv[1:]


def fit_and_dump(self: Trainer, *given: Any) -> Outcome:
    outcome = fit(self, *given)
    state = {
        "model": self.model.state_dict(),
        "ema": self.steps.ema.model.state_dict() if self.steps.ema else None,
    }
    torch.save(state, os.path.join(FOLDER, f"rank{self.world.rank}.pt"))
    return outcome


if __name__ == "__main__":
    Trainer.fit = fit_and_dump
    leave(main(ARGUMENTS))
