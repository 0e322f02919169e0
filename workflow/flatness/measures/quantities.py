"""What can be measured: every quantity's meaning, unit, convention and standing.

The registry is the only source of the tables' columns and of the data dictionary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

#: definition: as written. theorem: an inequality that always holds. heuristic: a bound that may
#: fail. released: as the authors' code computes it.
Kind = Literal["definition", "theorem", "heuristic", "released"]

LOSS = "L = 1/(2n) Σ ||f(x) − y||², all parameters"
LOGS = "natural logarithm of the mean over samples"


@dataclass(frozen=True)
class Quantity:
    """One measured quantity.

    Attributes:
        symbol: as in the papers.
        description: what it is, with its equation.
        kind: what it may be relied on for.
        unit: empty for pure numbers.
        convention: loss, or order of mean and logarithm, that the value depends on.
    """

    symbol: str
    description: str
    kind: Kind = "definition"
    unit: str = ""
    convention: str = ""


_OUTPUT = "output"
_SLOPE = "output/input"
_MEASURES = {
    "sharpness": Quantity(
        "S",
        "mean over samples of the squared norm of the outputs' gradients by all parameters; the "
        "trace of the loss's Hessian where the model interpolates",
        unit="output²/parameter²",
        convention=LOSS,
    ),
    "mls": Quantity("MLS", "mean largest singular value of J = ∂f/∂x", unit=_SLOPE),
    "nmls": Quantity(
        "NMLS",
        "sum over linear and convolutional layers of the mean largest singular value of the "
        "Jacobian by the layer's input, through this layer alone",
        unit=_SLOPE,
    ),
    "jacobian_norm_squared": Quantity("G", "mean of ||J||_F²", unit="(output/input)²"),
    "local_dimensionality": Quantity(
        "D_PR",
        "mean participation ratio Tr(C)²/Tr(C²) of C = J Jᵀ, between 1 and N; nan where J = 0",
    ),
    "rank": Quantity("rank J", "mean number of singular values of J above max(N, d)·eps·σ₁"),
    "log_volume_top3": Quantity(
        "log volume",
        "mean log of the product of the three largest singular values of J, or of all where it has "
        "fewer; -inf where one of them is zero but for rounding",
        "released",
        convention="mean over samples of natural logarithms",
    ),
    "log_lvr": Quantity(
        "log LVR", "local volumetric ratio sqrt(det(J Jᵀ)); -inf below rank N", convention=LOGS
    ),
    "log_nvr": Quantity(
        "log NVR",
        "network volumetric ratio: sum over layers of sqrt(det(J_l J_lᵀ))",
        convention=LOGS,
    ),
    "normalized_mls": Quantity("normalized MLS", "mean of ||x||² ||J||_2²", unit="output²"),
    "input_invariant_mls": Quantity(
        "input-invariant MLS",
        "mean of ||J x||² / numel(x)",
        "released",
        unit="output²",
    ),
    "average_case_sharpness": Quantity(
        "½ Σ w_p² H_pp",
        "adaptive average-case sharpness: mean rise of the loss under Gaussian noise of standard "
        "deviation ρ|w_p|, divided by ρ²",
        unit="output²",
        convention=f"{LOSS}; leading term in ρ, by the Gauss-Newton form, exact at interpolation",
    ),
    "average_case_sharpness_sampled": Quantity(
        "E[L(w+δ) − L(w)]/ρ²",
        "adaptive average-case sharpness of the actual loss, by Gaussian perturbations with "
        "standard deviation ρ|w_p|; the standard error covers perturbations and samples",
        unit="output²",
        convention=LOSS,
    ),
    "relative_flatness": Quantity(
        "κ",
        "relative flatness Σ <w_s, w_s'> Tr(H_ss') of the last linear layer, its bias left out: "
        "||W_L||_F² mean ||x^L||²; nan where the output is not a linear layer's",
        unit="output²",
        convention=LOSS,
    ),
    "log_lvr_bound_jacobian": Quantity(
        "log N^(-N/2) mean ||J||_F^N",
        "bound on the local volumetric ratio by ||J||_F",
        "theorem",
        convention=LOGS,
    ),
}

_BOUNDS = {
    "bound_b": ("B", "bound on MLS: ||W||_2 mean(g/||x||), g the gradient by the first kernel"),
    "bound_c": ("C", "bound on MLS: ||W||_2 sqrt(mean 1/||x||²) sqrt(mean g²)"),
    "bound_d": ("D", "the MLS bound: ||W||_2 sqrt(mean 1/||x||²) sqrt(S)"),
    "nmls_bound": ("NMLS bound", "sqrt(mean Σ_l ||W_l||_2²/||x^l||²) sqrt(S)"),
    "log_lvr_bound": ("log LVR bound", "bound on the local volumetric ratio by sharpness"),
    "log_nvr_bound": ("log NVR bound", "bound on the network volumetric ratio by sharpness"),
}

_KINDS: dict[str, tuple[Kind, str]] = {
    "": (
        "theorem",
        "for convolutions ||x|| is the smallest singular value of the patches; nan where there are "
        "more positions than rows of patches; inf at a zero input",
    ),
    "_bias": (
        "theorem",
        "the bias's gradient counted in: sqrt(1 + ||x||²), or the patches with a row of ones, in "
        "place of ||x||",
    ),
    "_released": (
        "heuristic",
        "for convolutions ||K||_F² times output positions in place of ||W||_2², 1e-4 added to "
        "||x||², and ||W||_F² for linear layers beside them; may fail there; the published form "
        "for networks without convolutions",
    ),
}


def _quantities() -> Iterator[tuple[str, Quantity]]:
    yield from _MEASURES.items()
    for suffix, (kind, note) in _KINDS.items():
        for name, (symbol, description) in _BOUNDS.items():
            log = name.startswith("log_")
            yield (
                name + suffix,
                Quantity(
                    symbol,
                    f"{description}; {note}",
                    kind,
                    unit="" if log else _SLOPE,
                    convention=f"{LOSS}; {LOGS}" if log else LOSS,
                ),
            )


#: Every quantity that `flatness.measures.measure.measure` returns, by name.
QUANTITIES: dict[str, Quantity] = dict(_quantities())

#: Quantities that need the layers' operator norms.
BOUND_NAMES = frozenset(name + suffix for suffix in _KINDS for name in _BOUNDS)
