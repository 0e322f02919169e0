"""Differences between the published notebooks and the report: one file per pool.

Each file lists its pool's defects of training and of measuring with a sentence each, and contains
the code that follows the notebook when a defect is on. Some defects are options of a network or of
a data set; their line names the option. The code imports PyTorch only when it runs, since parsing
the workflow needs only the names.
"""

from collections.abc import Iterable
from itertools import chain, combinations

from flatness.studies.epfl.defects import fcnn, gat, lenet5

#: Differences of the notebooks from the report in training, by pool.
TRAINING_DEFECTS = {"fcnn": fcnn.TRAINING, "lenet5": lenet5.TRAINING, "gat": gat.TRAINING}
#: Differences of the notebooks from the report in measuring, by pool.
MEASURING_DEFECTS = {"fcnn": fcnn.MEASURING, "lenet5": lenet5.MEASURING, "gat": gat.MEASURING}


def training_protocols() -> list[str]:
    """Names of all training protocols: written, released, and each defect alone."""
    return ["written", "released", *(name for known in TRAINING_DEFECTS.values() for name in known)]


def measuring_protocols() -> list[str]:
    """Names of all measuring protocols: written, released, strong, and each defect alone."""
    alone = (name for known in MEASURING_DEFECTS.values() for name in known)
    return ["written", "released", "strong", *alone]


def combinations_of(known: Iterable[str]) -> list[str]:
    """Names of all protocols made of some defects: "written", "a", …, "a+b", …, "released"."""
    known = tuple(known)
    chosen = chain.from_iterable(combinations(known, size) for size in range(1, len(known)))
    return ["written", *("+".join(names) for names in chosen), "released"]


def crossed(pool: str) -> dict[str, list[str]]:
    """Training protocols of a pool's factorial, each with its measuring protocols."""
    trainings = combinations_of(TRAINING_DEFECTS[pool])
    measurings = combinations_of(MEASURING_DEFECTS[pool])
    ends = {"written", "released"}
    return {
        trained: measurings if trained in ends else [m for m in measurings if m in ends]
        for trained in trainings
    }


def defects_of(known: Iterable[str], protocol: str) -> tuple[str, ...]:
    """The defects of a protocol by its name: "written", "released", or names joined by +."""
    if protocol == "written":
        return ()
    return tuple(known) if protocol == "released" else tuple(protocol.split("+"))
