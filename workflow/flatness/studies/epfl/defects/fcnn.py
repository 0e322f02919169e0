"""The FCNN's notebook against the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from flatness.measures.ascent import Parameters
    from flatness.studies.epfl.pools import FcnnPool
    from flatness.studies.epfl.slices import PoolMeasurement

#: Defects of training. Options of `pools.FcnnPool` are `elu_output`, `lost_row` and `default_init`,
#: of `train_stacked.step_losses` `full_batch_steps`, of `protocol.StoppingRule` `signed_stopping`.
TRAINING = {
    "elu_output": "ELU after every layer, the output included, in place of ReLU",
    "found_learning_rate": "learning rate 0.102 from a learning-rate finder",
    "full_batch_steps": "each minibatch step uses the full training set",
    "lost_row": "the first row of the file is read as a header",
    "default_init": "PyTorch's default initial weights in place of Xavier's",
    "signed_stopping": "one warm-up epoch, then a signed drop under 5 % stops; at most 12",
}
#: Defects of measuring: `rises`.
MEASURING = {
    "missing_absolute_value": "box w ± ρw: for negative weights both bounds are swapped",
    "full_batches": "6 passes of 53 steps on the full training set, no restarts",
    "end_of_pass": "keeps the end of the pass with the largest loss sum, not the largest loss",
}

LEARNING_RATE = 0.102
#: Of training, the warm-up epoch included.
MAX_EPOCHS = 12
#: Of the ascent over the training set.
PASSES = 6


def learning_rate(written: float, defects: Sequence[str]) -> float:
    """The learning rate of training, and so the step size of the plain ascent."""
    return LEARNING_RATE if "found_learning_rate" in defects else written


def rises(
    pool: FcnnPool,
    settings: PoolMeasurement,
    centre: Parameters,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Loss rises of a stack of FCNNs.

    Args:
        pool: data and network.
        settings: ascent and defects.
        centre: trained weights, (M, ...).
        generators: one per model; they draw the batches.

    Returns:
        (M, restarts); one restart under `full_batches`.
    """
    import torch

    from flatness.measures.ascent import ascent_path, box, draw_batches

    defects = settings.defects
    half_width = box(centre, settings.rho)
    if "missing_absolute_value" in defects:
        # w ± ρw: for a negative weight the lower bound exceeds the upper bound, and clamp returns
        # the upper one, so that δ = ρw whatever the gradient is.
        half_width = {name: settings.rho * weights for name, weights in centre.items()}
    if "full_batches" in defects:
        restarts = [pool.whole]
        passes, length = PASSES, math.ceil(pool.samples / settings.ascent.batch_size)
    else:
        ascent = settings.ascent
        drawn = draw_batches(pool.samples, ascent.restarts, ascent.batch_size, generators)
        restarts = [partial(pool.losses, batch=batch) for batch in pool.batch(drawn).unbind(1)]
        passes, length = settings.ascent.steps, 1

    def move(_: int, gradient: Tensor, __: Tensor) -> Tensor:
        return settings.step_size * gradient

    found = []
    for losses in restarts:
        path = ascent_path(losses, centre, half_width, move, passes * length)
        kept = end_of_pass(path, length) if "end_of_pass" in defects else path[1:].amax(0)
        found.append(kept - path[0])
    return torch.stack(found, dim=1)


def end_of_pass(path: Tensor, length: int) -> Tensor:
    """Loss at the end of the pass whose steps have the largest sum of losses after each update.

    Args:
        path: (passes · length + 1, M) losses along an ascent, its start included.
        length: steps a pass.

    Returns:
        (M,).
    """
    sums = path[1:].unflatten(0, (-1, length)).sum(1)
    return path[length::length].gather(0, sums.argmax(0, keepdim=True))[0]
