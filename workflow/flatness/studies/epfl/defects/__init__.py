"""What the published notebooks do otherwise than the report: one file per pool, names and code.

Each file lists its pool's defects of training and of measuring with a sentence each, and holds the
code that follows the notebook where one of them is on. A defect that is an option of a network or
of a data set is that option, and its line says where. The names are known without PyTorch, which
the code imports when it runs: a workflow that is only read needs the names alone.
"""

from collections.abc import Iterable
from itertools import chain, combinations

from flatness.studies.epfl.defects import fcnn, gat, lenet5

#: What the notebooks do in training that the report does not say, by pool.
TRAINING_DEFECTS = {"fcnn": fcnn.TRAINING, "lenet5": lenet5.TRAINING, "gat": gat.TRAINING}
#: What the notebooks do in measuring that the report does not say, by pool.
MEASURING_DEFECTS = {"fcnn": fcnn.MEASURING, "lenet5": lenet5.MEASURING, "gat": gat.MEASURING}


def training_protocols() -> list[str]:
    """Names of all training protocols: written, released, and each defect alone."""
    return ["written", "released", *(name for known in TRAINING_DEFECTS.values() for name in known)]


def measuring_protocols() -> list[str]:
    """Names of all measuring protocols: written, released, strong, and each defect alone."""
    alone = (name for known in MEASURING_DEFECTS.values() for name in known)
    return ["written", "released", "strong", *alone]


def combinations_of(known: Iterable[str]) -> list[str]:
    """Names of all protocols that some defects make: "written", "a", …, "a+b", …, "released"."""
    known = tuple(known)
    chosen = chain.from_iterable(combinations(known, size) for size in range(1, len(known)))
    return ["written", *("+".join(names) for names in chosen), "released"]


def crossed(pool: str) -> dict[str, list[str]]:
    """Training protocols of a pool's factorial, each with the measuring ones that it meets."""
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
