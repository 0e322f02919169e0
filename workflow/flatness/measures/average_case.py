"""Adaptive average-case sharpness by sampling: how far the loss rises under relative noise.

    E_{δ ~ N(0, ρ² diag(w²))} [L(w+δ) − L(w)] / ρ² = ½ Σ_p w_p² H_pp + O(ρ²)

Loss convention: L = 1/(2n) Σ ||f(x_i) − y_i||². Perturbations come in pairs ±δ: this cancels the
contribution of the gradient to the noise and does not change the mean.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flatness.measures._network import evaluate
from flatness.measures._progress import bar
from flatness.measures.estimates import Estimate
from flatness.measures.workarounds import never_alone


@dataclass(frozen=True)
class AverageCaseSharpness:
    """Adaptive average-case sharpness of one model.

    Attributes:
        by_perturbation: mean over samples for each pair of perturbations, (pairs,), float64.
        by_sample: mean over pairs for each sample, (n,), float64.
    """

    by_perturbation: Float[Tensor, " pairs"]
    by_sample: Float[Tensor, " n"]

    @property
    def for_these_samples(self) -> Estimate:
        """The mean; its standard error is that of the perturbations, the samples held fixed."""
        return Estimate(float(self.by_perturbation.mean()), _error(self.by_perturbation))

    @property
    def estimate(self) -> Estimate:
        """The mean; its standard error covers both perturbations and samples; NaN at n = 1."""
        both = (_error(self.by_perturbation), _error(self.by_sample))
        return Estimate(float(self.by_sample.mean()), sum(e**2 for e in both) ** 0.5)


def average_case_sharpness_sampled(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n N"],
    *,
    rho: float,
    pairs: int,
    seed: int,
    chunk: int,
) -> AverageCaseSharpness:
    """Samples the mean rise of the actual loss under Gaussian noise relative to each weight.

    Args:
        model: maps (n, ...) to (n, N), in evaluation mode.
        inputs: (n, ...).
        targets: (n, N).
        rho: ρ, the noise's standard deviation relative to |w_p|.
        pairs: perturbations drawn; each is taken with both signs.
        seed: of the perturbations.
        chunk: samples in one forward pass.

    Returns:
        Values by perturbation and by sample.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def losses(moved: dict[str, Tensor]) -> Tensor:
        parts = []
        for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            outputs = never_alone(lambda z: evaluate(model, moved, z))(x)
            parts.append((outputs - y).double().square().sum(1) / 2)
        return torch.cat(parts)

    generator = torch.Generator(device=inputs.device).manual_seed(seed)
    by_sample = inputs.new_zeros(len(inputs), dtype=torch.float64)
    by_perturbation = []
    with torch.no_grad():
        clean = losses(parameters)
        for _ in bar(pairs, "perturbing"):
            rise = -2 * clean
            noise = {n: rho * p * _normal(p, generator) for n, p in parameters.items()}
            for sign in (1, -1):
                moved = {name: p.add(noise[name], alpha=sign) for name, p in parameters.items()}
                rise += losses(moved)
            by_sample += rise / (2 * rho**2 * pairs)
            by_perturbation.append(rise.mean() / (2 * rho**2))
    return AverageCaseSharpness(torch.stack(by_perturbation).cpu(), by_sample.cpu())


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _error(values: Tensor) -> float:
    """Standard error of a mean; NaN for one value."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
