"""scikit-learn's 1797 digits as 3x32x32 pixels, in place of CIFAR-10."""

from torch import Tensor

from flatness.datasets.images.digits import scaled_digits


def make() -> dict[str, Tensor]:
    """The images."""
    return scaled_digits(side=32, channels=3)
