"""The GAT's notebook against the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from flatness.measures.ascent import Parameters
    from flatness.studies.epfl.pools import GatPool
    from flatness.studies.epfl.slices import PoolMeasurement

#: Defects of training, in `protocol.StoppingRule`. The notebook pads the last batch. But a batch is
#: a mask of nodes, so the last batch contains the remaining nodes, as in the report.
TRAINING = {
    "late_stopping": "training may stop from one epoch later on than the report says",
}
#: Defects of measuring: `rises`.
MEASURING = {
    "train_dropout": "dropout is on in the ascent and in both losses",
    "single_draw": "the loss at the centre is drawn once, not once a restart",
    "collapsed_masks": "a batch is a mask of nodes, so nodes drawn twice count once",
    "mismatched_loss": "climbs on one batch of 64, scores the sum of 3 new batches of all 140",
    "five_restarts": "5 restarts in place of 50",
}

RESTARTS = 5


def rises(
    pool: GatPool,
    settings: PoolMeasurement,
    centre: Parameters,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Loss rises of a stack of GATs.

    With `single_draw` all restarts share one loss at the centre, so the spread over restarts does
    not include the noise of that loss.

    Args:
        pool: graph and network.
        settings: ascent and defects.
        centre: trained weights, (M, ...).
        generators: one per model; they draw batches and dropout.

    Returns:
        (M, restarts).
    """
    import torch

    from flatness.measures.ascent import ascent_path, box, draw_batches

    defects = settings.defects
    dropout = generators if "train_dropout" in defects else None
    restarts = RESTARTS if "five_restarts" in defects else settings.ascent.restarts
    drawn = draw_batches(pool.samples, restarts, settings.ascent.batch_size, generators)
    clean, found = None, []

    def move(_: int, gradient: Tensor, __: Tensor) -> Tensor:
        return settings.step_size * gradient

    for indices in drawn.unbind(1):
        climbed = pool.batch(indices, collapse="collapsed_masks" in defects)

        def score(parameters: Parameters, climbed: Tensor = climbed) -> Tensor:
            scored = [climbed]
            if "mismatched_loss" in defects:
                scored = _all_nodes(pool, settings, generators)
            return sum(pool.losses(parameters, batch, dropout) for batch in scored)

        climb = partial(pool.losses, batch=climbed, dropout=dropout)
        half_width = box(centre, settings.rho)
        path = ascent_path(climb, centre, half_width, move, settings.ascent.steps, score=score)
        if clean is None or "single_draw" not in defects:
            clean = path[0]
        found.append(path[1:].amax(0) - clean)
    return torch.stack(found, dim=1)


def _all_nodes(
    pool: GatPool, settings: PoolMeasurement, generators: Sequence[torch.Generator]
) -> list[Tensor]:
    """All training nodes in shuffled batches, the last one smaller.

    The notebook pads its last batch with repeats of that batch's last node. A batch is a mask, in
    which repeats count once, so the padding changes nothing.

    Returns:
        Weights of the nodes, (M, nodes), one per batch.
    """
    import torch

    order = torch.stack([torch.randperm(pool.samples, generator=one) for one in generators])
    return [pool.batch(part) for part in order.split(settings.ascent.batch_size, dim=1)]
