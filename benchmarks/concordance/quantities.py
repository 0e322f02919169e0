"""What is compared, on which weights, and to how many digits. All in float64.

Every value is in our convention: L = 1/(2n) Σ ‖f(x) − y‖² or −1/n Σ log softmax(f(x))_y, by all
parameters w. From PyTorch's MSELoss the first differs by the factor N/2, N the number of outputs.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.networks.lenet5 import lenet5

#: Eigenvalues from the top.
COUNT = 3
#: Standard errors that an estimate may be off: they are from as few as ten values themselves.
ERRORS = 4
#: Up to this many parameters the Hessian is formed in full.
DENSE = 1000


@dataclass(frozen=True)
class Case:
    """A model with its data.

    Attributes:
        name: for the page.
        about: likewise.
        model: float64, in evaluation mode; taken by `copy.deepcopy`, since libraries leave traces.
        inputs: (n, ...).
        labels: classes, (n,).
        loss: "cross_entropy" or "squared_error", the latter from one-hot rows.
    """

    name: str
    about: str
    model: nn.Sequential
    inputs: Tensor
    labels: Tensor
    loss: str

    @property
    def size(self) -> int:
        """D, parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def outputs(self) -> int:
        """N."""
        return self.model[-1].out_features

    @property
    def one_hot(self) -> Tensor:
        """Labels as rows, (n, N)."""
        return functional.one_hot(self.labels, self.outputs).double()

    @property
    def targets(self) -> Tensor:
        """What the loss takes."""
        return self.labels if self.loss == "cross_entropy" else self.one_hot

    @property
    def criterion(self) -> nn.Module:
        """PyTorch's loss, a mean."""
        return nn.CrossEntropyLoss() if self.loss == "cross_entropy" else nn.MSELoss()

    @property
    def factor(self) -> float:
        """From the criterion's Hessian to ours."""
        return 1.0 if self.loss == "cross_entropy" else self.outputs / 2

    @property
    def factor_words(self) -> str:
        """The factor as the table has it."""
        return "" if self.loss == "cross_entropy" else "× N/2"


@dataclass(frozen=True)
class Quantity:
    """One row group of the table.

    Attributes:
        words: its definition.
        digits: to which values that are no estimates agree, relative to the largest entry.
    """

    words: str
    digits: int


QUANTITIES = {
    "trace": Quantity("Tr H, H = ∇²L", 9),
    "top_eigenvalues": Quantity(f"the {COUNT} largest eigenvalues of H", 6),
    "mean_square": Quantity("mean of λ², second moment of the spectral density of H", 9),
    "ggn_trace": Quantity("Tr G, G = 1/n Σ Jᵀ(∇²ℓ)J, J = ∂f/∂w", 9),
    "ggn_diagonal": Quantity("diagonal of G, (D,)", 9),
    "sharpness": Quantity("S = 1/n Σ ‖∂f/∂w‖²", 9),
    "gradient_norms": Quantity("‖∇ℓ‖ of each sample, (n,)", 9),
    "singular_values": Quantity("σ₁, (Σσ²)^½ and log σ₁σ₂σ₃ of each sample's ∂f/∂x, (n, 3)", 9),
}


@dataclass(frozen=True)
class Found:
    """What a library finds.

    Attributes:
        value: in our convention.
        standard_error: of an estimate; 0 where none.
    """

    value: Tensor
    standard_error: float = 0.0


@dataclass(frozen=True)
class Entry:
    """A library's way to a quantity.

    Attributes:
        quantity: of `QUANTITIES`.
        call: what is called, for the table.
        compute: does it.
        factor: from the library's convention to ours, in words.
        digits: where the library's own tolerance allows fewer than the quantity's.
        refused: words of the error that it ends in instead, a known fault.
    """

    quantity: str
    call: str
    compute: Callable[[], Found] = field(repr=False)
    factor: str = ""
    digits: int | None = None
    refused: str = ""


def estimate(samples: Tensor, factor: float = 1.0) -> Found:
    """The mean of independent estimates, with the standard error from their spread."""
    error = float(samples.std() / len(samples) ** 0.5)
    return Found(samples.mean() * factor, error * factor)


def shown_spectrum(values: Tensor) -> Tensor:
    """Of singular values (n, N) what `QUANTITIES` says, (n, 3)."""
    return torch.stack([values[:, 0], values.norm(dim=1), values[:, :3].log().sum(1)], dim=1)


def cases() -> list[Case]:
    """The models, seeded."""
    torch.manual_seed(0)
    mlp = nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(10, 16),
            tanh1=nn.Tanh(),
            fc2=nn.Linear(16, 12),
            tanh2=nn.Tanh(),
            fc3=nn.Linear(12, 5),
        )
    )
    convolutional = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3),
            tanh1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(4, 6, 2),
            tanh2=nn.Tanh(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(24, 4),
        )
    )
    return [
        _case("mlp", "tanh MLP 10-16-12-5, cross-entropy", mlp, (64, 10), "cross_entropy"),
        _case(
            "convolutional",
            "two convolutions, tanh and average pooling, squared error",
            convolutional,
            (32, 1, 8, 8),
            "squared_error",
        ),
        _case(
            "lenet5",
            "our LeNet-5 (ReLU), squared error",
            lenet5(),
            (20, 3, 32, 32),
            "squared_error",
        ),
    ]


def _case(name: str, about: str, model: nn.Sequential, shape: tuple[int, ...], loss: str) -> Case:
    model = model.double().eval()
    inputs = torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(model[-1].out_features, shape[:1])
    case = Case(name, about, model, inputs, labels, loss)
    _train(case)
    return case


def _train(case: Case) -> None:
    """Some steps, so that the spectrum has the few large eigenvalues of a trained network."""
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        case.criterion(case.model(case.inputs), case.targets).backward()
        optimizer.step()
    optimizer.zero_grad()
