"""The data sets: one module each, named like the data set, in the folder of its kind.

The module of a published data set has a `SOURCE`, which says where its files are, and a function
`read`, which turns them into tensors. The module of a demo data set, which needs no download, has a
function `make`. Some published files are pickles, which run code when loaded. So `read` gets a
private folder that contains only files verified by `flatness.datasets.fetch`.

No code imports these modules by name, so adding a data set does not change the code version of
existing results.
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
