"""The training loop and what surrounds it; knows no model. A step, in order:

1. `Trainer.one_step` takes the batch of the step and calls `Steps` with it (`CapturedSteps` replays a graph).
2. `Steps` asks each turn whether it is due, and moves those that are, one after the other.
3. `TurnUpdate.move` splits the batch into micro-batches; only the turn's own parameters require gradients.
4. Each of them: the turn's loss under autocast, in DistributedDataParallel if there are ranks; backward.
5. The ranks agree on whether all is finite; gradients are unscaled and clipped; the masked optimiser steps.
6. Buffers become rank 0's, the average follows, `TurnUpdate.advance` sets the next learning rate.
7. `Trainer._after_step` logs, saves, evaluates and saves again, and shows pictures, whatever is due.
"""
