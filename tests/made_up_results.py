"""A made-up results folder: some tables of each study, as the pipeline would leave them."""

import math

import matplotlib.pyplot as plt

from flatness.records.tables import provenance, write_table
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.cross.rows import CrossModel
from flatness.studies.epfl.rows import (
    AuditedProtocol,
    PoolCorrelation,
    PoolModel,
    ReplicatedModel,
    SourceComparison,
    TauDistribution,
    TrainedModel,
)
from flatness.studies.transformers.rows import PlacedVit, VitCorrelation

EMPTY = {str: "", int: 0, float: math.nan, bool: False}


def made_up(row, **values):
    """A row of a model: the given values, nothing in all other columns."""
    empty = {name: EMPTY[field.annotation] for name, field in row.model_fields.items()}
    made = {k: v for k, v in provenance("abc").items() if k in row.model_fields}
    return row(**(empty | made | values))


def pool(results, name="fcnn", tau=-0.3, low=-0.5, high=-0.1, lost=(), demo=False):
    """Tables of one EPFL pool of 50 models, of which some are left out."""
    folder = results / f"correlations/epfl/{name}/written/written"
    shared = {"pool": name, "trained": "written", "measured": "written", "demo": demo}
    correlation = made_up(
        PoolCorrelation, **shared, measure="worst_case_sharpness", tau=tau, low=low, high=high,
        dataset="abalone", train_size=3341, confidence=0.95, p_value=0.01, n=50 - len(lost),
        excluded=len(lost), published_tau=-0.311, published_p=0.001,
    )  # fmt: skip
    clamped = correlation.model_copy(update={"measure": "worst_case_sharpness_clamped", "tau": 0.9})
    write_table(folder / "correlations.csv", [correlation, clamped])
    models = [
        made_up(
            PoolModel, **shared, seed=seed, used=seed not in lost, test_loss=0.5,
            worst_case_sharpness=0.1,
            reason="the loss became nan in epoch 2" if seed in lost else "",
        )
        for seed in range(50)
    ]  # fmt: skip
    write_table(folder / "models.csv", models)


def trained(results, name, protocol, block, seeds):
    """The table of one block of trained models of an EPFL pool."""
    models = [made_up(TrainedModel, pool=name, seed=seed) for seed in seeds]
    write_table(results / f"checkpoints/epfl/{name}/{protocol}/{block}.csv", models)


def replications(
    results, name="fcnn", mean=-0.1, reach=0.05, count=20, published=-0.311, lost=(),
    protocol="written",
):  # fmt: skip
    """Tables of the replications of one EPFL pool: one distribution, some models."""
    folder = results / f"correlations/replications/{name}/{protocol}/{protocol}"
    distribution = made_up(
        TauDistribution, pool=name, trained=protocol, measured=protocol,
        measure="worst_case_sharpness",
        mean_tau=mean, low=mean - reach, high=mean + reach, replications=count,
        replication_size=50,
        dataset="abalone", train_size=3341, p_value=1e-3,
        predictive_low=mean - 4 * reach, predictive_high=mean + 4 * reach, published_tau=published,
    )  # fmt: skip
    write_table(folder / "distribution.csv", [distribution])
    models = [
        made_up(
            ReplicatedModel, pool=name, trained=protocol, measured=protocol, seed=seed,
            used=seed not in lost, reason="the loss became nan in epoch 2" if seed in lost else "",
        )
        for seed in range(100)
    ]  # fmt: skip
    write_table(folder / "models.csv", models)


def audit(results, name="fcnn", lost=()):
    """Tables of one pool's audit: one protocol, ten models."""
    folder = results / f"correlations/audit/{name}"
    shared = {"pool": name, "trained": "written", "measured": "released"}
    row = made_up(AuditedProtocol, **shared, part="measuring", n=10 - len(lost), excluded=len(lost))
    write_table(folder / "audit.csv", [row])
    against = made_up(
        SourceComparison, pool=name, origin="published figure",
        compared="worst_case_sharpness_sd", ours=0.09, error=0.01, n=10,
        source_value=0.2, source_error=0.02, source_n=50, z=-4.9, differs=True,
    )  # fmt: skip
    write_table(folder / "released_against_source.csv", [against])
    models = [
        made_up(
            PoolModel, **shared, seed=seed, used=seed not in lost,
            reason="the loss became nan in epoch 2" if seed in lost else "",
        )
        for seed in range(10)
    ]  # fmt: skip
    write_table(folder / "models.csv", models)


def family(
    results, name="vgg11", estimate=0.6, low=0.4, high=0.8, violations=0, steps=750_000, n=97
):
    """Tables of one Chen family: one correlation over models, bounds, two checkpoints."""
    folder = results / f"correlations/chen/{name}"
    dataset = "fashion_mnist" if name.startswith("mlp") else "cifar10"
    correlation = made_up(
        FamilyCorrelation, family=name, over="models", x="mls", y="bound_d_released",
        at="end of training", sampled="train", method="pearson", estimate=estimate, low=low,
        high=high, confidence=0.95, p_value=1e-6, n=n, interpolating=n - 2, train_size=10_000,
        steps=steps, dataset=dataset, excluded=3,
        reasons="3 × training loss not finite by step 400",
    )  # fmt: skip
    write_table(folder / "correlations.csv", [correlation])
    bounds = [("mls", "bound_d", "theorem", violations), ("nmls", "nmls_bound", "heuristic", 7)]
    write_table(
        folder / "bounds.csv",
        [
            made_up(
                BoundTightness, family=name, quantity=value, bound=bound, standing=kind,
                median_log10_ratio=1.0, violations=broken, n=200,
            )
            for value, bound, kind, broken in bounds
        ],
    )  # fmt: skip
    checkpoints = [
        made_up(
            MeasuredCheckpoint, family=name, setting="lr0.2_batch20", seed=seed, step=step,
            last=step == 800, sampled="train", diverged=seed == 3,
            reason="training loss not finite by step 400" if seed == 3 else "",
        )
        for seed in (2, 3)
        for step in (400, 800)
    ]  # fmt: skip
    write_table(folder / "checkpoints.csv", checkpoints)


def transformers(results):
    """Tables of the transformer study: one correlation, two models."""
    folder = results / "correlations/transformers"
    correlation = made_up(
        VitCorrelation, estimator="exact", x="normalized_mls", y="average_case_sharpness",
        group="all", method="kendall", estimate=0.1, low=-0.2, high=0.4, n=13, excluded=1,
    )  # fmt: skip
    write_table(folder / "correlations.csv", [correlation])
    models = [
        made_up(PlacedVit, estimator="exact", model="vit_a", used=True),
        made_up(PlacedVit, estimator="exact", model="levit_b", reason="untrained: 12%"),
    ]
    write_table(folder / "models.csv", models)


def cross(results):
    """Measures of three models: one diverged, one could not be measured, one has no definition."""
    statuses = {
        "diverged": "the loss became nan",
        "not measured": "overflow",
        "not defined": "none",
    }
    models = [
        made_up(
            CrossModel, study="chen", models="vgg11", setting="lr0.2_batch20", seed=seed,
            measure="worst_case_strong", status=status, reason=reason,
        )
        for seed, (status, reason) in enumerate(statuses.items())
    ]  # fmt: skip
    write_table(results / "correlations/cross/models.csv", models)


def picture(results, name):
    """A picture of a figure."""
    path = results / f"figures/{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.imsave(path, [[0.0, 1.0]])


def benchmark(results, place, seconds):
    """Snakemake's record of one job."""
    path = results / f"benchmarks/{place}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:01:00\t500.5\t-\n", encoding="utf-8"
    )
