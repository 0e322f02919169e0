"""Names of networks and data sets, and values with intervals, in figures and captions."""

import math

TITLES = {
    # networks
    "mlp": "MLP",
    "mlp_relu": "ReLU MLP",
    "mlp_tanh": "tanh MLP",
    "fcnn": "FCNN",
    "lenet5": "LeNet-5",
    "vgg11": "VGG-11",
    "gat": "GAT",
    # data sets
    "abalone": "Abalone",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR-10",
    "digits32": "digits",
    "cora": "Cora",
}


def title(name: str) -> str:
    """The title of a network or data set in figures; its own name if it has no title."""
    return TITLES.get(name, name)


def value(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval, such as "+0.31 [+0.10, +0.52]" or "+0.31 (no interval)".

    Args:
        estimate: the value; NaN where there is none.
        low: lower end of the interval; NaN without one.
        high: upper end.
        digits: of the value; the interval has two.

    Returns:
        The text.
    """
    if not math.isfinite(estimate):
        return "not defined"
    ends = f"[{low:+.2f}, {high:+.2f}]" if math.isfinite(low + high) else "(no interval)"
    return f"{estimate:+.{digits}f} {ends}"
