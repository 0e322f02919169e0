"""Core-seconds of the EPFL study's jobs, for the verb `plan`: one thread of an AMD EPYC core."""

from collections.abc import Callable

from flatness.studies.epfl.config import PoolSettings, crossed
from flatness.studies.epfl.study import EpflStudy

#: Core-seconds that every job spends on starting Python and reading its input.
START_SECONDS = 3.5
#: Training images of the data sets that LeNet-5 can learn.
TRAIN_IMAGES = {"fashion_mnist": 60_000, "digits": 1437}
#: Core-seconds of one τ with its resampling.
TAU_SECONDS = 0.25

#: Core-seconds of training and of measuring one model as written.
TRAINING_SECONDS = {"fcnn": 0.013, "gat": 0.024}
MEASURING_SECONDS = {"fcnn": 0.017, "gat": 0.146}
#: Of protocols that take much more or less, by pool.
OTHER_TRAINING_SECONDS = {"fcnn": {"full_batch_steps": 0.5, "released": 0.5}, "gat": {}}
OTHER_MEASURING_SECONDS = {
    "fcnn": {"strong": 0.15, "full_batches": 0.85, "released": 0.8},
    "gat": {
        "strong": 1.2,
        "train_dropout": 0.24,
        "single_draw": 0.22,
        "collapsed_masks": 0.22,
        "mismatched_loss": 0.26,
        "five_restarts": 0.02,
        "released": 0.06,
    },
}

#: Core-seconds of one step of LeNet-5, and steps that evaluating one batch amounts to.
LENET_STEP_SECONDS = 8.9e-3
LENET_EVALUATION = 0.3
LENET_EPOCHS = 7
#: Starts of the strong ascent, and losses along the way from each.
STRONG_STARTS, STRONG_LOSSES = 3, 11


def epfl_seconds(epfl: EpflStudy) -> float:
    """Core-seconds of all pools, replications and audits from nothing."""
    pools = sum(pool_seconds(name, pool) for name, pool in epfl.pools.items())
    more = sum(replication_seconds(epfl, name) for name in epfl.replications)
    audits = sum(audit_seconds(epfl, name) for name in epfl.audit)
    return pools + more + audits + sum(factorial_seconds(epfl, name) for name in epfl.factorial)


def pool_seconds(name: str, pool: PoolSettings) -> float:
    """Core-seconds of training and measuring one pool as written."""
    return 2 * len(pool.blocks) * START_SECONDS + pool.models * model_seconds(name, pool)


def replication_seconds(epfl: EpflStudy, name: str) -> float:
    """Core-seconds of one pool's replications beyond the pool itself."""
    pool, chosen = epfl.pools[name], epfl.replications[name]
    jobs = 2 * (len(epfl.replication_blocks(name)) - len(pool.blocks)) + 1
    models = (chosen.count - 1) * pool.models
    taus = chosen.count * TAU_SECONDS
    return jobs * START_SECONDS + models * model_seconds(name, pool) + taus


def audit_seconds(epfl: EpflStudy, name: str) -> float:
    """Core-seconds of one pool's audit beyond the pool itself."""
    pool, runs = epfl.pools[name], epfl.audit_plan(name).runs
    seconds = START_SECONDS + len(runs) * TAU_SECONDS
    for run in runs:
        start = len(run.blocks) * START_SECONDS
        if (run.trained, run.measured) != ("written", "written"):
            seconds += start + run.models * measuring_seconds(name, pool, run.measured)
        if run.part == "training" and run.trained != "written":
            seconds += start + run.models * training_seconds(name, pool, run.trained)
    return seconds


def factorial_seconds(epfl: EpflStudy, name: str) -> float:
    """Core-seconds of one pool under every combination, each taken for its costliest defect."""
    pool, chosen = epfl.pools[name], epfl.factorial[name]

    def most(seconds: Callable[[str, PoolSettings, str], float], protocol: str) -> float:
        return max(seconds(name, pool, part) for part in ("written", *protocol.split("+")))

    a_model = sum(
        most(training_seconds, trained) + sum(most(measuring_seconds, m) for m in measured)
        for trained, measured in crossed(name).items()
    )
    return len(chosen.blocks) * START_SECONDS + chosen.models * a_model


def model_seconds(name: str, pool: PoolSettings) -> float:
    """Core-seconds of training and measuring one model as written."""
    return training_seconds(name, pool, "written") + measuring_seconds(name, pool, "written")


def training_seconds(name: str, pool: PoolSettings, trained: str) -> float:
    """Core-seconds of training one model."""
    if name != "lenet5":
        return OTHER_TRAINING_SECONDS[name].get(trained, TRAINING_SECONDS[name])
    return min(LENET_EPOCHS, pool.max_epochs) * _lenet_batches(pool) * LENET_STEP_SECONDS


def measuring_seconds(name: str, pool: PoolSettings, measured: str) -> float:
    """Core-seconds of measuring one model."""
    if name != "lenet5":
        return OTHER_MEASURING_SECONDS[name].get(measured, MEASURING_SECONDS[name])
    ascent = pool.ascent
    steps = ascent.restarts * (ascent.steps + 1)
    if measured == "strong":
        steps = ascent.restarts * STRONG_STARTS * STRONG_LOSSES
    elif measured in ("whole_set", "released"):
        steps = (ascent.steps + LENET_EVALUATION * (ascent.steps + 1)) * _lenet_batches(pool)
    return steps * LENET_STEP_SECONDS


def _lenet_batches(pool: PoolSettings) -> float:
    return (pool.train_size or TRAIN_IMAGES.get(pool.dataset, 60_000)) / pool.batch_size
