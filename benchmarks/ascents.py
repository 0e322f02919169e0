"""What ascents find at equal cost: `python -m benchmarks.ascents`, for docs/worst-case.md.

The three ways take 33, 33 and 31 losses with their gradients, from the same random starts.
"""

from functools import partial

import torch
from torch.nn import functional

from benchmarks.common import FITTED, TRAINED, trained
from flatness.measures.ascent import draw_batches
from flatness.measures.balls import ASCENTS, Ball, highest, top
from flatness.measures.worst_case_ball import Weights

SETS = [("linf", rho) for rho in (0.002, 0.01, 0.05, 0.2)] + [("l2", rho) for rho in (0.2, 1, 5)]
BATCHES = 5


def rises(weights: Weights, batch: torch.Tensor, ball: Ball, ascent: str) -> list[float]:
    """How far the loss rises on one batch: as `highest` does, all starts to the end, one start."""
    slope = weights.slope(batch)
    zero = torch.zeros_like(weights.centre)
    start = slope(zero)[0]
    drawn = partial(torch.Generator().manual_seed, 0)
    led = highest(slope, ball, zero, ascent=ascent, steps=20, corners=2, generator=drawn())
    generator = drawn()
    starts = [zero, *(ball.boundary(zero, generator) for _ in range(2))]
    climb = partial(ASCENTS[ascent], slope, ball)
    each = torch.stack([top(climb(point, 10)) for point in starts]).max()
    return [float(found - start) for found in (led, each, top(climb(zero, 30)))]


def main() -> None:
    """Prints the table: Auto-PGD with a leader, and the others relative to it."""
    torch.set_num_threads(1)
    print("| network, steps | set, ρ | Auto-PGD: leader | each | centre | decaying: … |")
    for name in ("lenet5", "mlp"):
        for steps in (TRAINED, FITTED):
            model, inputs, targets = trained(name, 200, functional.cross_entropy, steps)
            labelled = inputs, targets.argmax(1)
            weights = Weights(model, functional.cross_entropy, labelled, adaptive=True)
            batches = draw_batches(200, BATCHES, 64, [torch.Generator().manual_seed(0)])[0]
            for norm, rho in SETS:
                found = [
                    torch.tensor([rises(weights, b, Ball(norm, rho), a) for b in batches]).mean(0)
                    for a in ("apgd", "decaying")
                ]
                first, *others = torch.cat(found).tolist()
                cells = [f"{first:.4g}", *(f"{100 * (other / first - 1):+.1f}" for other in others)]
                print("|", f"{name}, {steps} | {norm}, {rho} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
