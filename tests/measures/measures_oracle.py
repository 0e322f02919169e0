"""Every quantity by its literal definition: loops over outputs and samples, full SVDs."""

import math

import numpy as np
import torch
from torch import Tensor, nn

EPSILON = 1e-4


def rows_of(output: Tensor, wrt: list[Tensor]) -> list[Tensor]:
    """Jacobian of (N,) outputs by each tensor: one `autograd.grad` per output; (N, ...)."""
    rows = [torch.autograd.grad(o, wrt, retain_graph=True, allow_unused=True) for o in output]
    return [
        torch.stack([torch.zeros_like(w) if r[i] is None else r[i] for r in rows])
        for i, w in enumerate(wrt)
    ]


def layer_inputs(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output (N,) for one sample (1, ...), and the input of each linear or conv layer."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):

            def keep(_module, args, name=name):
                seen[name] = args[0]

            handles.append(module.register_forward_pre_hook(keep))
    output = model(x).flatten()
    for handle in handles:
        handle.remove()
    return output, seen


def matrix_of(module: nn.Module, shape: torch.Size) -> Tensor:
    """The layer as a dense matrix (outputs, inputs), column by column, bias left out."""
    size = math.prod(shape)
    with torch.no_grad():
        zero = module(torch.zeros(1, *shape, dtype=module.weight.dtype)).flatten()
        basis = torch.eye(size, dtype=module.weight.dtype)
        return torch.stack([module(e.reshape(1, *shape)).flatten() - zero for e in basis], dim=1)


def kernel_gradient_matrix(module: nn.Module, x: Tensor, *, bias: bool) -> Tensor:
    """The map from the gradient at the layer's output to the gradient by its parameters."""
    y = module(x).flatten()
    wrt = [module.weight] + ([module.bias] if bias and module.bias is not None else [])
    return torch.cat([rows.flatten(1) for rows in rows_of(y, wrt)], dim=1).T


def positions_of(module: nn.Module, x: Tensor) -> int:
    return module(x)[0, 0].numel() if isinstance(module, nn.Conv2d) else 1


def is_bounded(module: nn.Module, x: Tensor, *, bias: bool) -> bool:
    """Whether a kernel has as many entries per channel as there are positions."""
    extra = bias and module.bias is not None
    return positions_of(module, x) <= module.weight[0].numel() + extra


def stretch(module: nn.Module, x: Tensor, *, bias: bool) -> float:
    """||W||_2 over the least of ||gradient by the parameters|| / ||δ|| over all δ."""
    if isinstance(module, nn.Linear):
        least = math.sqrt(x.square().sum().item() + (bias and module.bias is not None))
        return torch.linalg.matrix_norm(module.weight, 2).item() / least
    norm = torch.linalg.matrix_norm(matrix_of(module, x.shape[1:]), 2)
    least = torch.linalg.svdvals(kernel_gradient_matrix(module, x.detach(), bias=bias))[-1]
    return float(norm / least)


def released_stretch(model: nn.Module, module: nn.Module, x: Tensor) -> float:
    if not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        return stretch(module, x, bias=False)
    scale = module.weight.norm().item() * math.sqrt(positions_of(module, x))
    epsilon = EPSILON if isinstance(module, nn.Conv2d) else 0.0
    return scale / math.sqrt(x.square().sum().item() + epsilon)


def volume(values: Tensor, outputs: int) -> float:
    return float(values.prod()) if len(values) >= outputs else 0.0


def bounded_layers(model: nn.Module, inputs: dict[str, Tensor], *, bias: bool) -> list[str]:
    """The layers whose stretch is used: all of them, or the first, or none."""
    first = next(iter(inputs))
    few = {n: is_bounded(model.get_submodule(n), a, bias=bias) for n, a in inputs.items()}
    return list(inputs) if all(few.values()) else [first] * few[first]


def one_sample(model: nn.Module, x: Tensor) -> dict:
    x = x.detach().clone().requires_grad_()
    output, inputs = layer_inputs(model, x)
    N = len(output)
    parameters = dict(model.named_parameters())
    gradients = dict(zip(parameters, rows_of(output, list(parameters.values())), strict=True))
    (J,) = rows_of(output, [x])
    J = J.flatten(1)
    values = torch.linalg.svdvals(J)
    C = J @ J.T
    wanted = {b: bounded_layers(model, inputs, bias=b) for b in (False, True)}
    layers = []
    for name, module in model.named_modules():
        if name not in inputs:
            continue
        a = inputs[name]
        (J_l,) = rows_of(output, [a])
        singular = torch.linalg.svdvals(J_l.flatten(1))
        prefix = f"{name}." if name else ""
        kernel = float(gradients[f"{prefix}weight"].square().sum())
        bias = float(gradients.get(f"{prefix}bias", torch.zeros(1)).square().sum())
        plain, with_bias = (
            stretch(module, a, bias=b) if name in wanted[b] else math.nan for b in (False, True)
        )
        layers.append(
            {
                "mls": float(singular[0]),
                "volume": volume(singular, N),
                "plain": (plain, kernel),
                "bias": (with_bias, kernel + bias),
                "released": (released_stretch(model, module, a), kernel),
                "input": a.square().sum().item(),
                "weight": module.weight,
            }
        )
    return {
        "S": sum(float(g.square().sum()) for g in gradients.values()),
        "adaptive": sum(
            (g.square() * parameters[n].square()).sum().item() / 2 for n, g in gradients.items()
        ),
        "values": values,
        "rank": int(torch.linalg.matrix_rank(J)),
        "G": float(J.square().sum()),
        "dimension": float(torch.trace(C) ** 2 / torch.trace(C @ C)),
        "volume": volume(values, N),
        "x2": x.square().sum().item(),
        "invariant": (J @ x.flatten()).square().sum().item() / x.numel(),
        "layers": layers,
    }


def oracle(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Every quantity of a network whose linear and conv layers follow one another.

    Args:
        model: float64, its first linear or conv layer applied to the input, its last linear.
        inputs: (n, ...), none of them zero.

    Returns:
        Name to value.
    """
    parts = [one_sample(model, x) for x in inputs.split(1)]
    n, N = len(parts), len(model(inputs[:1]).flatten())
    S = np.mean([p["S"] for p in parts])
    top = min(3, N, inputs[0].numel())
    found = {
        "sharpness": S,
        "mls": np.mean([p["values"][0] for p in parts]),
        "nmls": sum(
            np.mean([p["layers"][i]["mls"] for p in parts]) for i in range(len(parts[0]["layers"]))
        ),
        "jacobian_norm_squared": np.mean([p["G"] for p in parts]),
        "local_dimensionality": np.mean([p["dimension"] for p in parts]),
        "rank": np.mean([p["rank"] for p in parts]),
        "log_volume_top3": np.mean([math.log(p["values"][:top].prod()) for p in parts]),
        "log_lvr": math.log(np.mean([p["volume"] for p in parts])),
        "log_nvr": math.log(np.mean([sum(a["volume"] for a in p["layers"]) for p in parts])),
        "normalized_mls": np.mean([p["x2"] * float(p["values"][0]) ** 2 for p in parts]),
        "input_invariant_mls": np.mean([p["invariant"] for p in parts]),
        "average_case_sharpness": np.mean([p["adaptive"] for p in parts]),
        "relative_flatness": parts[0]["layers"][-1]["weight"].square().sum().item()
        * np.mean([p["layers"][-1]["input"] for p in parts]),
        "log_lvr_bound_jacobian": math.log(
            N ** (-N / 2) * np.mean([p["G"] ** (N / 2) for p in parts])
        ),
    }
    for suffix, kind in {"": "plain", "_bias": "bias", "_released": "released"}.items():
        r = np.array([[layer[kind][0] for layer in p["layers"]] for p in parts])
        g = np.array([p["layers"][0][kind][1] ** 0.5 for p in parts])
        factor = N ** (-N / 2) / n * (n * S) ** (N / 2)
        found |= {
            f"bound_b{suffix}": np.mean(r[:, 0] * g),
            f"bound_c{suffix}": math.sqrt(np.mean(r[:, 0] ** 2) * np.mean(g**2)),
            f"bound_d{suffix}": math.sqrt(np.mean(r[:, 0] ** 2) * S),
            f"nmls_bound{suffix}": math.sqrt(np.mean((r**2).sum(1)) * S),
            f"log_lvr_bound{suffix}": np.log(factor * np.sqrt((r[:, 0] ** (2 * N)).sum())),
            f"log_nvr_bound{suffix}": np.log(factor * np.sqrt((r ** (2 * N)).sum())),
        }
    return {name: float(value) for name, value in found.items()}
