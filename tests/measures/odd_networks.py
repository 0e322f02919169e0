"""Small networks that are unusual but sound, float64, and what their numbers are by definition."""

import math
import random

import numpy as np
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from flatness.measures.ascent import draw_batches


class Around(nn.Module):
    """A linear layer, something, and another linear layer."""

    def __init__(self, middle=torch.tanh, hidden=3, outputs=2):
        super().__init__()
        self.first, self.last = nn.Linear(4, hidden), nn.Linear(hidden, outputs)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return (self.scale * x).sin()


class ZeroMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return 0 * self.fc(x)


class Squeezed(Around):
    def __init__(self):
        super().__init__(outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


class SequenceFirst(Around):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1)).mean(0)


class Attention(Around):
    """Queries, keys and values are the input's rows."""

    def __init__(self):
        super().__init__(middle=lambda h: functional.scaled_dot_product_attention(h, h, h))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (3, 4))).mean(1)


class MultiHead(Around):
    def __init__(self):
        super().__init__(hidden=4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.unflatten(1, (3, 4)))
        return self.last(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Checkpointed(Around):
    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(lambda z: self.first(z).tanh(), x, use_reentrant=False)
        return self.last(hidden)


class Cube(torch.autograd.Function):
    """Its backward pass looks at the numbers, which vmap does not allow."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        assert not math.isnan(float(gradient.abs().max()))
        return 3 * x.square() * gradient


class Empty(Around):
    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0, 3))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.again = nn.Linear(4, 4)
        self.weight = self.first.weight
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.first(x).tanh()) @ self.weight)


class Counting(Around):
    """Counts its calls, in a buffer and out of it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.number, self.seen = 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.replaced = self.replaced + 1
        self.number, self.seen = self.number + 1, x
        return super().forward(x)


class Caching(Around):
    """Keeps what it computed from its parameters, as timm's LeViT does."""

    def __init__(self):
        super().__init__()
        self.attention_biases = nn.Parameter(torch.randn(3))
        self.attention_bias_cache = {}

    def forward(self, x: Tensor) -> Tensor:
        if "cpu" not in self.attention_bias_cache:
            self.attention_bias_cache["cpu"] = 2 * self.attention_biases
        return self.last((self.first(x) + self.attention_bias_cache["cpu"]).tanh())


class Plain(nn.Module):
    """Parameters of its own, in a list and a dictionary."""

    def __init__(self):
        super().__init__()
        self.list = nn.ParameterList([torch.randn(4, 3)])
        self.dict = nn.ParameterDict({"out": torch.randn(3, 2)})

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.list[0]).tanh() @ self.dict["out"]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.last = nn.GRUCell(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x, self.cell(x)))


def images(*middle):
    return nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 4, 2, padding=1), *middle, nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


def pruned(name: str) -> nn.Module:
    model = Around()
    prune.l1_unstructured(model.first, name, amount=1)
    return model


def timms() -> nn.Module:
    model = Around()
    model.last = timm.layers.Linear(3, 2)
    return model


def compiled() -> nn.Module:
    return torch.compile(Around(), backend="eager")


def training(*middle) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), *middle, nn.Tanh(), nn.Linear(3, 2)).train()


#: name -> how to make the network, and the shape of one input
SOUND = {
    "one parameter": (OneNumber, (4,)),
    "zero map": (ZeroMap, (4,)),
    "squeeze() on one output": (Squeezed, (4,)),
    "sequence-first, length 1": (SequenceFirst, (1, 4)),
    "sequence-first, length 2": (SequenceFirst, (2, 4)),
    "sequence-first, length 3": (SequenceFirst, (3, 4)),
    "attention": (Attention, (12,)),
    "multi-head attention": (MultiHead, (12,)),
    "compiled": (compiled, (4,)),
    "a function that vmap cannot batch": (lambda: Around(Cube.apply), (4,)),
    "pruned weight": (lambda: pruned("weight"), (4,)),
    "pruned bias": (lambda: pruned("bias"), (4,)),
    "timm's linear layer": (timms, (4,)),
    "instance norm": (lambda: images(nn.InstanceNorm2d(4, affine=True)), (12,)),
    "instance norm with statistics, in training mode": (
        lambda: images(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)).train(),
        (12,),
    ),
    "group norm": (lambda: images(nn.GroupNorm(2, 4)), (12,)),
    "a parameter without elements": (Empty, (4,)),
    "a parameter under three names": (Tied, (4,)),
    "counts its calls": (Counting, (4,)),
    "keeps what it computed": (Caching, (4,)),
    "parameters in a list and a dictionary": (Plain, (4,)),
    "recurrent": (Recurrent, (4,)),
    "dropout of nothing in training mode": (lambda: training(nn.Dropout(0.0)), (4,)),
    "outputs of two dimensions": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2))),
                                  (4,)),
    "in place": (lambda: training(nn.ELU(inplace=True)), (4,)),
    "spectral norm": (lambda: training(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
                      .eval(), (4,)),
    "no bias": (lambda: nn.Linear(4, 2, bias=False), (4,)),
}  # fmt: skip


class Dropping(Around):
    """Drops a branch at random, by whatever draws a number below 1."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        return self.last(hidden if self.draw(hidden) > 0.01 else 0 * hidden)


#: name -> how to make a network that is random in training or in every mode
RANDOM = {
    "torchvision's stochastic depth": lambda: training(depth(0.1)),
    "timm's drop path": lambda: training(timm.layers.DropPath(0.1)),
    "dropout": lambda: training(nn.Dropout(0.1)),
    "RReLU": lambda: training(nn.RReLU()),
    "functional dropout": lambda: Around(lambda h: functional.dropout(h, 0.1)).eval(),
    "torch.rand": lambda: Dropping(lambda _: torch.rand(1)).eval(),
    "torch.rand_like": lambda: Dropping(lambda h: torch.rand_like(h).mean()).eval(),
    "random": lambda: Dropping(lambda _: random.random()).eval(),
    "numpy": lambda: Dropping(lambda _: np.random.rand()).eval(),
    "gumbel": lambda: Around(lambda h: functional.gumbel_softmax(h)).eval(),
}


def depth(chance: float) -> nn.Module:
    from torchvision.ops import StochasticDepth

    return StochasticDepth(chance, "row")


def network(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A sound network, three inputs and targets."""
    torch.manual_seed(0)
    make, shape = SOUND[name]
    model = make().double()
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        outputs = make().double()(inputs)
    return model, inputs, outputs + torch.randn_like(outputs)


def evaluate(model: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs, of what the parameters are now."""
    if hasattr(model, "attention_bias_cache"):
        model.attention_bias_cache = {}
    return model(inputs)


def gradients_of(value: Tensor, parameters: list[nn.Parameter], **how) -> Tensor:
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    found = torch.autograd.grad(value, parameters, materialize_grads=True, **how)
    return torch.cat([g.flatten() for g in found])


def sharpness(model: nn.Module, inputs: Tensor) -> float:
    """(1/n) Σ_i Σ_k ||∂f_k(x_i)/∂θ||², each sample beside a copy of itself."""
    parameters, total = list(model.parameters()), 0.0
    for x in inputs:
        for output in evaluate(model, torch.stack([x, x]))[0].flatten():
            total += gradients_of(output, parameters, retain_graph=True).square().sum().item()
    return total / len(inputs)


def slope(model: nn.Module, inputs: Tensor) -> float:
    """(1/n) Σ_i ||∂f(x_i)/∂x||_2, each sample beside a copy of itself."""
    total = 0.0
    for x in inputs:
        leaf = x.clone().requires_grad_()
        outputs = evaluate(model, torch.stack([leaf, x]))[0].flatten()
        rows = [torch.autograd.grad(o, leaf, retain_graph=True)[0].flatten() for o in outputs]
        total += torch.linalg.matrix_norm(torch.stack(rows), 2).item()
    return total / len(inputs)


def ascent(model, loss, data, *, rho, step_size, steps, restarts, batch_size, seed) -> float:
    """Plain projected ascent on the model's own parameters, which are put back."""
    parameters = list(model.parameters())
    centre = torch.cat([p.detach().flatten() for p in parameters])
    generator, rises = torch.Generator().manual_seed(seed), []
    for batch in draw_batches(len(data[0]), restarts, batch_size, [generator])[0]:
        here, losses = centre.clone(), []
        for _ in range(steps + 1):
            nn.utils.vector_to_parameters(here.clone(), parameters)
            value = loss(evaluate(model, data[0][batch]), data[1][batch])
            losses.append(value.item())
            moved = here + step_size * gradients_of(value, parameters)
            width = rho * centre.abs()
            here = torch.clamp(moved, centre - width, centre + width)
        rises.append(max(losses[1:]) - losses[0])
    nn.utils.vector_to_parameters(centre, parameters)
    return sum(rises) / restarts


def hessian(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of L = 1/(2n) Σ ||f(x_i) − y_i||² by all parameters: gradients of each first derivative."""
    parameters = list(model.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        loss = (evaluate(model, inputs) - targets).square().sum() / (2 * len(inputs))
        first = gradients_of(loss, parameters, create_graph=True)
        return torch.stack([gradients_of(g, parameters, retain_graph=True) for g in first])
