"""FashionMNIST: 60,000 and 10,000 grey images of 28x28, 10 classes."""

import gzip
from pathlib import Path

from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from flatness.datasets.sources import Source

SOURCE = Source(
    folder="fashion-mnist",
    address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    licence="MIT; Xiao, Rasul and Vollgraf 2017",
    files={
        "train-images-idx3-ubyte.gz": (
            "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
)


def read(root: Path) -> dict[str, Tensor]:
    """The tensors, from the verified files below `root`."""
    folder = root / "fashion-mnist"
    tensors = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_image_file(_unzipped(folder / f"{prefix}-images-idx3-ubyte.gz"))
        tensors[f"{part}_inputs"] = images[:, None]
        tensors[f"{part}_targets"] = read_label_file(
            _unzipped(folder / f"{prefix}-labels-idx1-ubyte.gz")
        )
    return tensors


def _unzipped(path: Path) -> str:
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    return str(plain)
