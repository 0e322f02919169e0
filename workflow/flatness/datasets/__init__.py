"""The data sets: one module each, named like the data set, in the folder of its kind.

The module of a published data set has a `SOURCE`, which says where its files are, and a function
`read`, which makes tensors of them; that of a demo one, which needs no download, a function `make`.
Some published files are pickles, which run code when loaded: `read` is given a private folder into
which `flatness.datasets.fetch` has put verified files only.

Nothing imports them by name: a data set more is no change of the code behind the others' results.
"""

from pathlib import Path
from pkgutil import iter_modules
from typing import Literal

#: What each data set consists of: table, images or graph.
DATASETS = dict(
    sorted(
        (dataset.name, kind.name)
        for kind in iter_modules(__path__)
        if kind.ispkg
        for dataset in iter_modules([str(Path(__path__[0]) / kind.name)])
    )
)
DatasetName = Literal[tuple(DATASETS)]


def module_of(name: str) -> str:
    """The module of a data set, such as "flatness.datasets.images.cifar10"."""
    return f"{__name__}.{DATASETS[name]}.{name}"
