"""Names of networks and data sets in figures and captions."""

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
