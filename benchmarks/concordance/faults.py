"""Where another library is wrong: small cases whose right value has a closed form, in float64.

Each fault is shown anew at every run; one that is gone fails it, so that the page stays true.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import hessian_eigenthings as eigenthings
import torch
from laplace.curvature import CurvlinopsEF
from pyhessian import hessian as pyhessian
from torch import Tensor, nn


@dataclass(frozen=True)
class Fault:
    """A number that is wrong.

    Attributes:
        library: whose.
        case: what is computed.
        found: by the library.
        right: the closed form.
        because: why it is wrong.
    """

    library: str
    case: str
    found: float
    right: float
    because: str


class Quadratic(nn.Module):
    """½ wᵀAw as output, at w = 0: its Hessian by w is A."""

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.A, self.w = A, nn.Parameter(torch.zeros(len(A)))

    def forward(self, _: Tensor) -> Tensor:
        """The form, whatever the inputs."""
        return self.w @ self.A @ self.w / 2


def of_output(model: nn.Module) -> pyhessian:
    """PyHessian's object for a model whose output is the loss."""
    nothing = torch.zeros(1, 1)
    return pyhessian(model, lambda output, _: output, data=(nothing, nothing), cuda=False)


def top_eigenvalue(model: nn.Module) -> float:
    return of_output(model).eigenvalues(maxIter=1000, tol=1e-14)[0][0]


def probes(A: Tensor) -> float:
    """How many PyHessian takes for a trace."""
    torch.manual_seed(0)
    return float(len(of_output(Quadratic(A)).trace(maxIter=1000, tol=1e-3)))


def faults() -> Iterator[Fault]:
    """Each fault, computed."""
    torch.manual_seed(0)
    diagonal = torch.tensor([1.0, 0.5]).diag()
    yield Fault(
        "PyHessian",
        "largest eigenvalue of diag(1, ½), `tol=1e-14`",
        top_eigenvalue(Quadratic(diagonal)),
        1.0,
        "vectors are divided by ‖v‖ + 10⁻⁶, which takes 2·10⁻⁶ of itself from every eigenvalue",
    )
    model = Quadratic(diagonal)
    of_output(model)
    yield Fault(
        "PyHessian",
        "the same from a second object of the same model",
        top_eigenvalue(model),
        1.0,
        "it adds to the gradient that the first object left on the parameters",
    )
    ones = torch.ones(9, 9)
    yield Fault(
        "PyHessian",
        "probes until the trace of −A stands still to 10⁻³, A all ones, 9 × 9; right: those of A",
        probes(-ones),
        probes(ones),
        "the change is divided by the trace with its sign: of a negative one any change is small",
    )
    inputs, targets = torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3, 1)
    batches = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]
    operator = eigenthings.HessianOperator(
        nn.Linear(1, 1, bias=False), batches, eigenthings.supervised_loss(nn.MSELoss())
    )
    yield Fault(
        "hessian-eigenthings",
        "∇² of the mean of (wx)², x = 1, 2, 3 in batches of 2 and 1",
        float(operator.matvec(torch.ones(1))),
        2 * (1 + 4 + 9) / 3,
        "the mean over batches gives a smaller last batch the weight of a whole one",
    )
    linear = nn.Linear(1, 1, bias=False)
    nn.init.ones_(linear.weight)
    yield Fault(
        "laplace-torch",
        'empirical Fisher Σ(∂ℓ/∂w)², "regression", ℓ = ½(wx)², w = 1, x = 1, 2, 3',
        float(CurvlinopsEF(linear, "regression").diag(inputs, targets)[1]),
        1.0 + 16 + 81,
        "gradients of (wx)² are squared, and then halved once",
    )
