"""Networks and data sets as figures and captions name them."""

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
    """A network or data set as figures name it; one without a title goes by its own name."""
    return TITLES.get(name, name)
