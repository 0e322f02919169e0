"""Speed against other libraries at equal or better error: `python -m benchmarks.peers OUTPUT.json`.

Run by the Python of `make concordance`, which has them all. One thread, float32, CPU seconds; both
sides take turns, and the ratio is theirs over ours, so that above 1 we are ahead.
"""

import copy
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import curvlinops
import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from pyhessian import hessian as pyhessian
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import flatness
from benchmarks.common import FITTED, SHAPES, TRAINED, data, trained
from benchmarks.measures import ratio, seconds
from flatness.measures.ascent import draw_batches
from flatness.measures.balls import Ball, auto_ascent, top
from flatness.networks.build import build
from flatness.records.files import atomic_path

#: Samples of the Jacobians, and of the Hessian's loss.
SAMPLES = (20, 200)
#: Seeds over which the error of our trace is taken, and PyHessian's probes its own is from.
SEEDS, PROBES = 10, 200
#: Relative error of the top eigenvalue.
CLOSE = 1e-4
#: Batches that worst-case sharpness is the mean over; longest plain ascent.
RESTARTS, LONGEST = 10, 80
#: Highest ratio of ours to curvlinops, which we call.
OVER_CURVLINOPS = 1.1
Row = dict[str, Any]
Work = Callable[[], object]


def compared(
    what: str, peer: str, target: float, theirs: Work, ours: Work, share: float = 1
) -> Row:
    """Times of both sides.

    Args:
        what: is computed.
        peer: by whom.
        target: of the ratio.
        theirs: the peer's work, or the stated part of it.
        ours: ours.
        share: which part of the peer's work that is.
    """
    theirs(), ours()  # what is paid for once is in no turn
    slow, fast = seconds(theirs, ours)
    slow = [t / share for t in slow]
    row = {
        "what": what,
        "peer": peer,
        "target": target,
        "theirs_s": min(slow),
        "ours_s": min(fast),
        "ratio": ratio(slow, fast),
    }
    print(
        f"{what}: {peer} {min(slow):.3g} s, ours {min(fast):.3g} s, ratio "
        f"{row['ratio']['median']:.2f} [{row['ratio']['low']:.2f}, {row['ratio']['high']:.2f}]",
        flush=True,
    )
    return row


def jacobians(name: str, n: int) -> Iterator[Row]:
    """All singular values of ∂f/∂x of each sample."""
    model, (inputs, _) = build(name, seed=0).eval(), data(name, n)

    def ours() -> Tensor:
        return flatness.measure(model, inputs, quantities=["mls"]).samples.mls

    def by_func() -> Tensor:
        rows = vmap(jacrev(lambda x: model(x[None])[0]))(inputs)
        return torch.linalg.svdvals(rows.detach().flatten(2))

    if not torch.allclose(by_func()[:, 0].double(), ours(), rtol=1e-4):
        raise SystemExit(f"{name}: torch.func and ours differ")
    what = f"singular values of ∂f/∂x, {name}, n = {n}"
    yield compared(what, "vmap(jacrev)", 1, by_func, ours)
    extended = extend(copy.deepcopy(model))
    first = next(m for m in extended.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    if isinstance(first, nn.Linear):  # BackPACK has gradients by parameters: ∂f/∂x = δ W

        def by_backpack() -> Tensor:
            rows = []
            for k in range(10):
                with backpack(BatchGrad()):
                    extended(inputs)[:, k].sum().backward()
                rows.append(first.bias.grad_batch @ first.weight.detach())
            return torch.linalg.svdvals(torch.stack(rows, 1))

        yield compared(what, "BackPACK", 1, by_backpack, ours)


def trace(name: str, n: int, steps: int) -> Iterator[Row]:
    """The trace of the Hessian of the squared error at equal error.

    A ReLU network is linear in each weight: the diagonals of H and G are equal, and Tr H = S.
    """
    model, inputs, targets = trained(name, n, functional.mse_loss, steps)
    exact = flatness.measure(copy.deepcopy(model).double(), inputs.double())["sharpness"].value

    def ours(seed: int = 0) -> float:
        return flatness.hessian(model, inputs, targets, seed=seed).trace().value

    def probes(count: int) -> list[float]:
        made = pyhessian(copy.deepcopy(model), nn.MSELoss(), data=(inputs, targets), cuda=False)
        return [5 * value for value in made.trace(maxIter=count, tol=-math.inf)]  # N/2

    error = math.sqrt(np.mean([(ours(seed) / exact - 1) ** 2 for seed in range(SEEDS)]))
    torch.manual_seed(0)
    spread = np.std(probes(PROBES), ddof=1) / exact
    needed = math.ceil((spread / error) ** 2)
    counted = min(needed, PROBES)
    what = f"Tr H, {name}, n = {n}, {steps} steps of training, to {error:.1%}"
    peer = f"PyHessian, {needed} probes"
    yield compared(what, peer, 1, lambda: probes(counted), ours, share=counted / needed)

    def by_curvlinops() -> float:
        torch.manual_seed(0)
        own = list(model.parameters())
        H = curvlinops.HessianLinearOperator(model, nn.MSELoss(), own, [(inputs, targets)])
        return 5 * float(torch.stack([curvlinops.xtrace(H, 30) for _ in range(5)]).mean())

    what = f"Tr H, {name}, n = {n}, {steps} steps of training, the same products"
    yield compared(what, "curvlinops", 1 / OVER_CURVLINOPS, by_curvlinops, ours)


def top_eigenvalue(name: str, n: int) -> Iterator[Row]:
    """The largest eigenvalue of the Hessian of the cross-entropy, to a stated error."""
    model, inputs, targets = trained(name, n, functional.cross_entropy, TRAINED)
    labels = targets.argmax(1)
    double = copy.deepcopy(model).double()
    exact = flatness.hessian(double, inputs.double(), labels, loss="cross_entropy")
    exact = exact.top_eigenvalue(tolerance=1e-10)

    def ours() -> float:
        return flatness.hessian(model, inputs, labels, loss="cross_entropy").top_eigenvalue()

    def iterated(tolerance: float) -> float:
        torch.manual_seed(0)
        made = pyhessian(
            copy.deepcopy(model), nn.CrossEntropyLoss(), data=(inputs, labels), cuda=False
        )
        return made.eigenvalues(maxIter=10_000, tol=tolerance)[0][0]

    def by_curvlinops() -> float:
        own = list(model.parameters())
        H = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), own, [(inputs, labels)])
        return eigsh(H.to_scipy(), 1, which="LA", tol=CLOSE, return_eigenvectors=False)[0]

    if abs(ours() / exact - 1) > CLOSE:
        raise SystemExit(f"{name}: our largest eigenvalue is off by {ours() / exact - 1:.1e}")
    tolerances = (10.0**-k for k in range(3, 9))
    loosest = next((t for t in tolerances if abs(iterated(t) / exact - 1) <= CLOSE), None)
    what = f"largest eigenvalue, {name}, n = {n}, to {CLOSE:.0e}"
    if loosest is None:
        raise SystemExit(f"{what}: PyHessian does not come that near")
    yield compared(what, f"PyHessian, tol={loosest:.0e}", 1, partial(iterated, loosest), ours)
    yield compared(what, "curvlinops, eigsh", 1 / OVER_CURVLINOPS, by_curvlinops, ours)


def worst_case(name: str, n: int, rho: float) -> Iterator[Row]:
    """Adaptive worst-case sharpness in a box: ours against Auto-PGD from the weights alone.

    The plain ascent takes as many steps as it needs to rise as high as ours, on the same batches.
    """
    model, inputs, targets = trained(name, n, functional.cross_entropy, TRAINED)
    labels = targets.argmax(1)
    draws = draw_batches(n, RESTARTS, 64, [torch.Generator().manual_seed(0)])[0]
    moved = copy.deepcopy(model)
    own = list(moved.parameters())
    centre = parameters_to_vector(own).detach().clone()

    def ours() -> float:
        return flatness.worst_case_sharpness(
            model, inputs, labels, loss=functional.cross_entropy, rho=rho, restarts=RESTARTS
        ).value

    def slope(batch: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        vector_to_parameters(centre + centre.abs() * u, own)
        value = functional.cross_entropy(moved(inputs[batch]), labels[batch])
        gradient = parameters_to_vector(torch.autograd.grad(value, own))
        return value.detach(), gradient * centre.abs()

    def plain(steps: int) -> float:
        zero, rises = torch.zeros_like(centre), []
        for batch in draws:
            start = slope(batch, zero)[0]
            climb = auto_ascent(partial(slope, batch), Ball("linf", rho), zero, steps)
            rises.append(top(climb) - start)
        return float(torch.stack(rises).double().mean())

    rise = ours()
    steps, reached = 10, plain(10)
    while reached < rise and steps < LONGEST:
        steps = min(math.ceil(1.25 * steps), LONGEST)
        reached = plain(steps)
    short = "" if reached >= rise else f", {1 - reached / rise:.1%} lower"
    what = f"worst case, {name}, ρ = {rho}, rise {rise:.4g}"
    yield compared(what, f"plain APGD, {steps} steps{short}", 1, partial(plain, steps), ours)


def main(output: str) -> None:
    torch.set_num_threads(1)
    rows = [row for name in SHAPES for n in SAMPLES for row in jacobians(name, n)]
    rows += [row for steps in (0, TRAINED, FITTED) for row in trace("lenet5", 20, steps)]
    rows += top_eigenvalue("lenet5", 200)
    rows += [row for rho in (0.01, 0.05) for row in worst_case("lenet5", 200, rho)]
    libraries = ("torch", "curvlinops-for-pytorch", "backpack-for-pytorch", "pyhessian")
    record = {"rows": rows, "versions": {name: version(name) for name in libraries}}
    with atomic_path(Path(output)) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
