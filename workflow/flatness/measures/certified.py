"""A bracket that contains the worst-case sharpness of a small dense ReLU network.

    lower ≤ max_{|δ_p| ≤ ρ h_p} L(w + δ) − L(w) ≤ upper        h = |w| (adaptive) or 1

The lower bound is the highest loss that an ascent reaches. For the upper bound, each unit is
enclosed in an affine function of all weight perturbations plus a remainder, c + G u ± e with
|u| ≤ 1, as DeepZ (Singh et al., 2018) does for inputs; products of perturbations go into the
remainder. All samples share the perturbations, so the first order of the mean loss is exact if no
ReLU can switch. Both numbers are float64 without directed rounding: the bracket is proven up to
rounding errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from flatness.errors import UserError
from flatness.measures._checks import check_data, require_counts, require_positive
from flatness.measures.balls import Ball, highest
from flatness.measures.losses import LOSSES, mse, named_loss
from flatness.measures.measuring import measuring
from flatness.measures.worst_case_ball import Weights

LossName = Literal["squared_error", "mse", "cross_entropy"]
#: Iterations of the search for the direction in which outputs move most.
ITERATIONS = 50
#: Added to d, relative to its mean, so that weights with little effect do not dominate the bound.
SHARES = (1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0)
#: Modules that pass their input on unchanged, if samples are flat.
PASSING = nn.Flatten | nn.Identity | nn.Dropout


@dataclass(frozen=True)
class Bracket:
    """Two numbers between which the worst-case sharpness lies.

    Attributes:
        lower: a rise that some perturbation in the box reaches.
        upper: a rise that no perturbation in the box exceeds.
        switching: ReLUs, counted over samples, that some perturbation may switch on or off.
        convention: the loss.
    """

    lower: float
    upper: float
    switching: int
    convention: str

    @property
    def ratio(self) -> float:
        """Upper over lower, at best 1; infinite if the lower bound is zero."""
        return self.upper / self.lower if self.lower > 0 else float("inf")


@dataclass(frozen=True)
class _Enclosure:
    """Values of k units under every perturbation: c + G u ± e, and within [low, high]."""

    centre: Tensor
    slopes: Tensor  # (k, D)
    rest: Tensor
    low: Tensor
    high: Tensor

    def tightened(self) -> "_Enclosure":
        reach = self.slopes.abs().sum(1) + self.rest
        return _Enclosure(
            self.centre,
            self.slopes,
            self.rest,
            torch.maximum(self.low, self.centre - reach),
            torch.minimum(self.high, self.centre + reach),
        )


@dataclass(frozen=True)
class _Dense:
    """A linear layer, how far its parameters may move, and their positions among all parameters."""

    weight: Tensor
    bias: Tensor
    weight_reach: Tensor
    bias_reach: Tensor
    first: int
    has_bias: bool

    def __call__(self, a: _Enclosure) -> _Enclosure:
        middle, half = (a.low + a.high) / 2, (a.high - a.low) / 2
        slopes = self.weight @ a.slopes
        rows, columns = self.weight.shape
        own = slopes[:, self.first : self.first + rows * columns].view(rows, rows, columns)
        diagonal = torch.arange(rows)
        own[diagonal, diagonal] += self.weight_reach * a.centre
        if self.has_bias:
            slopes[diagonal, self.first + rows * columns + diagonal] += self.bias_reach
        # δW (a − c): a is within [low, high]; the tighter bound is used
        off = torch.maximum((a.high - a.centre).abs(), (a.low - a.centre).abs())
        rest = self.weight.abs() @ a.rest + self.weight_reach @ off
        by_interval = (
            self.weight.abs() @ half + self.weight_reach @ (middle.abs() + half) + self.bias_reach
        )
        at_middle = self.weight @ middle + self.bias
        return _Enclosure(
            self.weight @ a.centre + self.bias,
            slopes,
            rest,
            at_middle - by_interval,
            at_middle + by_interval,
        ).tightened()


def _relu(a: _Enclosure) -> tuple[_Enclosure, int]:
    """The units after ReLUs, and the number of ReLUs that can switch."""
    switching = (a.low < 0) & (a.high > 0)
    width = torch.where(switching, a.high - a.low, torch.ones_like(a.high))
    slope = torch.where(switching, a.high / width, (a.low >= 0).to(a.high))
    # a chord from (low, 0) to (high, high), and half of what the ReLU is below it
    shift = torch.where(switching, -slope * a.low / 2, torch.zeros_like(a.low))
    enclosed = _Enclosure(
        slope * a.centre + shift,
        slope[:, None] * a.slopes,
        slope * a.rest + shift,
        a.low.clamp(min=0),
        a.high.clamp(min=0),
    )
    return enclosed.tightened(), int(switching.sum())


def certified_sharpness(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Shaped[Tensor, "n ..."],
    *,
    loss: LossName = "squared_error",
    rho: float,
    adaptive: bool = True,
    steps: int = 30,
    corners: int = 4,
    seed: int = 0,
) -> Bracket:
    """Bounds from both sides on how far the loss of these samples can rise in a box.

    Needs memory for (widest layer) × (parameters) numbers. It is tight while few ReLUs can switch,
    and quickly becomes loose beyond.

    Args:
        model: an nn.Sequential of Linear and ReLU; Flatten, Identity and Dropout pass.
        inputs: (n, ...); the loss is over all n samples, without drawing.
        targets: (n, N), or (n,) class labels for cross-entropy.
        loss: a name in `losses.LOSSES`.
        rho: ρ, the box's half width: relative to each weight if adaptive, else in their unit.
        adaptive: whether the box is |δ_p| ≤ ρ|w_p|, else |δ_p| ≤ ρ.
        steps: of the ascent from the start that climbs on.
        corners: random corners to start from, besides δ = 0.
        seed: of the corners.

    Returns:
        The bracket.

    Raises:
        UserError: a setting is out of range, or the model is of another kind.
        NumericalError: a parameter or the data are not finite.
    """
    with measuring(model):
        require_positive(rho=rho)
        require_counts(steps=steps)
        require_counts(0, corners=corners)
        if loss not in LOSSES:
            raise UserError(f"loss: no {loss!r}; there are {', '.join(LOSSES)}")
        inputs, targets = check_data(model, (inputs, targets))
        double = _double(model)
        data = inputs.double(), targets
        if loss != "cross_entropy":
            outputs = double(data[0])
            mse(outputs, targets)  # refuses targets of another shape
            data = data[0], targets.double().reshape(outputs.shape)
        return Bracket(
            _from_below(double, loss, data, rho, adaptive, steps, corners, seed),
            *_from_above(double, loss, data, rho, adaptive),
            LOSSES[loss].convention,
        )


def _double(model: nn.Module) -> nn.Sequential:
    """A float64 copy of a plain stack of linear layers and ReLUs, on the CPU."""
    layers = list(_layers(model))
    if len({id(layer) for layer in layers if isinstance(layer, nn.Linear)}) < sum(
        isinstance(layer, nn.Linear) for layer in layers
    ):
        raise UserError("a linear layer is used twice; give each use a layer of its own")
    copies: list[nn.Module] = [nn.Flatten()]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            own = nn.Linear(
                layer.in_features, layer.out_features, layer.bias is not None, dtype=torch.float64
            )
            own.load_state_dict(layer.state_dict())
            copies.append(own)
        else:
            copies.append(nn.ReLU())
    return nn.Sequential(*copies)


def _layers(model: nn.Module) -> Iterator[nn.Linear | nn.ReLU]:
    parts = model if isinstance(model, nn.Sequential) else [model]
    for part in parts:
        if isinstance(part, nn.Sequential):
            yield from _layers(part)
        elif type(part) in {nn.Linear, nn.ReLU}:
            yield part  # pyright: ignore[reportReturnType]
        elif not isinstance(part, PASSING):
            raise UserError(
                f"{type(part).__name__} has no certificate; take an nn.Sequential of Linear, ReLU"
            )


def _from_below(
    model: nn.Sequential,
    loss: str,
    data: tuple[Tensor, Tensor],
    rho: float,
    adaptive: bool,
    steps: int,
    corners: int,
    seed: int,
) -> float:
    weights = Weights(model, named_loss(loss).function, data, adaptive=adaptive)
    slope = weights.slope(torch.arange(len(data[0])))
    zero = torch.zeros_like(weights.centre)
    top = highest(
        slope,
        Ball("linf", rho),
        zero,
        ascent="decaying",
        steps=steps,
        corners=corners,
        generator=torch.Generator().manual_seed(seed),
    )
    return float(top - slope(zero)[0])


@torch.no_grad()
def _from_above(
    model: nn.Sequential, loss: str, data: tuple[Tensor, Tensor], rho: float, adaptive: bool
) -> tuple[float, int]:
    layers, size = _reaches(model, rho, adaptive)
    if loss == "cross_entropy":
        bounds = _CrossEntropyBounds(size)
    else:
        bounds = _SquaredBounds(1 if loss == "squared_error" else 2 / data[1][0].numel())
    switching = 0
    for x, y in zip(*data, strict=True):
        flat = x.flatten()
        zero = torch.zeros_like(flat)
        a = _Enclosure(flat, torch.zeros(len(flat), size, dtype=x.dtype), zero, flat, flat)
        for layer in layers:
            if layer is None:
                a, count = _relu(a)
                switching += count
            else:
                a = layer(a)
        bounds.add(a, y)
    start = LOSSES[loss].function(model(data[0]), data[1])
    return bounds.mean() - float(start), switching


def _reaches(model: nn.Sequential, rho: float, adaptive: bool) -> tuple[list[_Dense | None], int]:
    """Linear layers with their perturbations, None for a ReLU; and the number of parameters."""
    layers: list[_Dense | None] = []
    first = 0
    for part in model[1:]:
        if not isinstance(part, nn.Linear):
            layers.append(None)
            continue
        has_bias = part.bias is not None
        bias = part.bias.detach() if has_bias else part.weight.new_zeros(part.out_features)
        weight = part.weight.detach()
        reach = [rho * (t.abs() if adaptive else torch.ones_like(t)) for t in (weight, bias)]
        layers.append(_Dense(weight, bias, reach[0], has_bias * reach[1], first, has_bias))
        first += weight.numel() + has_bias * len(bias)
    return layers, first


class _SquaredBounds:
    """Bounds on the mean of ½‖f − y‖² over samples, f = c + G u ± e.

    Two bounds treat all samples together, with their outputs in one list of rows and r = c − y: one
    bounds the first order Σ_p |r·G_p| and the second order max ‖G u‖² separately, the other bounds
    both as max ‖r + G u‖².
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._offs: list[Tensor] = []
        self._slopes: list[Tensor] = []
        self._left = self._alone = 0.0

    def add(self, f: _Enclosure, y: Tensor) -> None:
        """Adds one sample's outputs and target."""
        off = f.centre - y
        self._offs.append(off)
        self._slopes.append(f.slopes)
        reach = off.abs() + f.slopes.abs().sum(1)
        self._left += float((reach * f.rest + f.rest.square() / 2).sum())
        farthest = torch.maximum((f.high - y).abs(), (f.low - y).abs())
        self._alone += float(farthest.square().sum() / 2)

    def mean(self) -> float:
        """The smallest of the bounds."""
        r, G = torch.cat(self._offs), torch.cat(self._slopes)
        first = r.square().sum() / 2 + (r @ G).abs().sum()
        both = most_of_square(torch.cat([r[:, None], G], dim=1)) / 2
        together = min(float(first) + most_of_square(G) / 2, both) + self._left
        return self._scale * min(together, self._alone) / len(self._offs)


class _CrossEntropyBounds:
    """Bounds on the mean of −log softmax(f)_y over samples, f = c + G u ± e.

    One bound adds the first order, shared by all samples, and each sample's second order
    Δᵀ(diag(p) − ppᵀ)Δ, a variance of at most (range/2)². The other takes each sample at its own
    worst perturbation.
    """

    def __init__(self, size: int) -> None:
        self._shared = torch.zeros(size, dtype=torch.float64)
        self._left = self._alone = 0.0
        self._samples = 0

    def add(self, f: _Enclosure, y: Tensor) -> None:
        """Adds one sample's outputs and label."""
        hot = functional.one_hot(y, len(f.centre)).double()
        slope = f.centre.softmax(0) - hot
        self._shared += slope @ f.slopes
        reach = f.slopes.abs().sum(1) + f.rest
        spread = reach.topk(min(2, len(reach))).values.sum()
        value = functional.cross_entropy(f.centre[None], y[None])
        self._left += float(value + slope.abs() @ f.rest + spread.square() / 8)
        worst = torch.where(hot > 0, f.low, f.high)
        self._alone += float(functional.cross_entropy(worst[None], y[None]))
        self._samples += 1

    def mean(self) -> float:
        """The smaller of the bounds."""
        together = float(self._shared.abs().sum()) + self._left
        return min(together, self._alone) / self._samples


def most_of_square(A: Float[Tensor, "n D"]) -> float:
    """An upper bound on max ‖A u‖² over |u_p| ≤ 1.

    For any d > 0, ‖A u‖² ≤ λ_max(A diag(1/d) Aᵀ) Σ_p d_p. With d = |Aᵀ v| this is an equality if v
    is both the direction of A sign(Aᵀ v) and the top eigenvector; v is found by iterating the
    former.

    Args:
        A: any matrix.

    Returns:
        The bound, at most the sum of the rows' own maxima, Σ_i (Σ_p |A_ip|)².
    """
    found = float(A.abs().sum(1).square().sum())
    v = torch.linalg.eigh(A @ A.T)[1][:, -1]
    for _ in range(ITERATIONS):
        moved = A @ (A.T @ v).sign()
        v = moved / moved.norm().clamp(min=torch.finfo(A.dtype).tiny)
    along = (A.T @ v).abs()
    for share in SHARES:
        d = along + share * along.mean()
        if (d > 0).all():
            most = torch.linalg.eigvalsh((A / d) @ A.T)[-1] * d.sum()
            found = min(found, float(most))
    return found
