"""The audit: which models run under which protocol, and what the table says of them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

from checkout import shipped
from flatness.__main__ import main
from flatness.errors import UserError
from flatness.pipeline.config import validate
from flatness.records.checkpoints import load_checkpoints, save_checkpoints
from flatness.records.frozen import canonical_json, seeds_of
from flatness.records.tables import provenance, read_table, write_table
from flatness.studies.epfl.against_source import against_source
from flatness.studies.epfl.audit import ratio_of_means
from flatness.studies.epfl.defects import MEASURING_DEFECTS, TRAINING_DEFECTS
from flatness.studies.epfl.draw.audit import draw_sharpness, draw_spread, draw_tau
from flatness.studies.epfl.rows import (
    AuditedProtocol,
    MeasuredModel,
    PoolModel,
    SourceComparison,
    TrainedModel,
)
from studies.epfl.made_up_pool import STATISTICS


def values(name="demo", **audit):
    config = shipped(name)
    config["epfl"]["audit"] = audit
    return config


def study(**audit):
    return validate(values("laptop", **audit)).epfl


LENET = {"models": 50, "few": 2, "costly": ["strong", "whole_set", "released"]}


@pytest.mark.parametrize("pool", ["fcnn", "lenet5", "gat"])
def test_every_defect_is_audited_alone_and_all_at_once(pool):
    plan = study(**{pool: {"models": 50, "few": 50, "costly": []}}).audit_plan(pool)
    pairs = {part: [] for part in ("measuring", "training", "both")}
    for run in plan.runs:
        pairs[run.part].append((run.trained, run.measured))
        assert {seed for block in run.blocks for seed in seeds_of(block)} == set(range(50))
    assert len(pairs["measuring"]) == len(set(pairs["measuring"]))
    protocols = {"written", "strong", "released", *MEASURING_DEFECTS[pool]}
    assert set(pairs["measuring"]) == {("written", name) for name in protocols}
    alone = list(TRAINING_DEFECTS[pool])
    trainings = ["written", "released", *(alone if len(alone) > 1 else [])]
    assert sorted(trained for trained, _ in pairs["training"]) == sorted(trainings)
    assert pairs["both"] == [("released", "released")]


def test_costly_protocols_take_fewer_models_out_of_blocks_that_are_trained():
    epfl = study(lenet5=LENET)
    runs = {(run.trained, run.measured): run for run in epfl.audit_plan("lenet5").runs}
    assert runs["written", "moved_centre"].models == 50
    assert runs["written", "moved_centre"].blocks == tuple(epfl.pools["lenet5"].blocks)
    for pair in [("written", "strong"), ("written", "whole_set"), ("weight_decay", "written")]:
        assert (runs[pair].models, runs[pair].blocks) == (2, ("0-1",))
    assert epfl.parts("lenet5") == {"0-1": "0-4"}
    assert epfl.parts("fcnn") == {}
    assert epfl.released_pools == []


def test_parts_of_a_later_block_are_taken_from_that_block():
    epfl = study(gat={"models": 30, "few": 30, "costly": []})
    assert epfl.parts("gat") == {"25-29": "25-49"}


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"models": 51, "few": 2, "costly": []}, "audit.lenet5: few 2, models 51"),
        ({"models": 5, "few": 6, "costly": []}, "audit.lenet5: few 6, models 5"),
        (
            {"models": 5, "few": 2, "costly": ["single_draw"]},
            r"no such protocol: \['single_draw'\]",
        ),
    ],
)
def test_an_audit_that_does_not_fit_its_pool_is_refused(audit, message):
    with pytest.raises(UserError, match=message):
        study(lenet5=audit)


def test_models_are_taken_with_their_weights_and_rows(tmp_path):
    weights = {f"seed{seed}": {"w": torch.full((2,), float(seed))} for seed in range(4, 8)}
    metadata = {"seeds": [4, 5, 6, 7], "reasons": ["", "lost", "", ""], "settings": {"a": 1}}
    save_checkpoints(tmp_path / "whole.safetensors", weights, metadata)
    write_table(tmp_path / "whole.csv", [trained(seed, 1.0) for seed in range(4, 8)])

    def take(seeds):
        return main(
            ["take-epfl", "--checkpoints", str(tmp_path / "whole.safetensors"), "--seeds", seeds]
            + ["--training", str(tmp_path / "whole.csv"), "--table", str(tmp_path / "part.csv")]
            + ["--output", str(tmp_path / "part.safetensors")]
        )

    assert take("5-6") == 0
    part, described = load_checkpoints(tmp_path / "part.safetensors")
    assert {name: own["w"].tolist() for name, own in part.items()} == {
        "seed5": [5.0, 5.0], "seed6": [6.0, 6.0]
    }  # fmt: skip
    assert described == {"seeds": [5, 6], "reasons": ["lost", ""], "settings": {"a": 1}}
    assert read_table(tmp_path / "part.csv", TrainedModel)["seed"].tolist() == [5, 6]
    assert take("7-8") == 2


def trained(seed, loss, diverged=False):
    return TrainedModel(
        pool="gat", dataset="cora", demo=False, train_size=140, seed=seed, split=0, epochs=10,
        epoch_loss=1.0, train_loss=1.0, test_loss=math.nan if diverged else loss,
        test_accuracy=0.5 + seed / 100,
        diverged=diverged, reason="the loss became nan" if diverged else "", **provenance("abc"),
    )  # fmt: skip


def measured(seed, sharpness):
    return MeasuredModel(
        pool="gat", seed=seed, worst_case_sharpness=sharpness,
        worst_case_sharpness_se=0.1, worst_case_sharpness_clamped=sharpness,
        restarts=50, reason="", **provenance("def"),
    )  # fmt: skip


@pytest.fixture
def audited(tmp_path):
    """A made-up audit of 12 models: "released" doubles the sharpness and swaps its order."""
    config = values(gat={"models": 12, "few": 3, "costly": ["strong"]})
    config["epfl"]["pools"]["gat"] |= {"models": 12, "block": 6}
    config["epfl"]["replications"] = {}
    plan = validate(config).epfl.audit_plan("gat")
    losses, noise = np.random.default_rng(0).normal(1, 0.1, size=(2, 12))
    for run in plan.runs:
        factor = {"released": -2.0, "strong": 3.0}.get(run.measured, 1.0)
        for block in run.blocks:
            seeds = seeds_of(block)
            write_table(
                tmp_path / f"checkpoints/{run.trained}/{block}.csv",
                [trained(seed, losses[seed], diverged=seed == 5) for seed in seeds],
            )
            write_table(
                tmp_path / f"measurements/{run.trained}/{run.measured}/{block}.csv",
                [measured(seed, factor * noise[seed]) for seed in seeds],
            )
    code = main(
        ["audit-epfl", "--plan", canonical_json(plan), "--statistics", canonical_json(STATISTICS)]
        + ["--training", str(tmp_path / "checkpoints"), "--output", str(tmp_path / "audit.csv")]
        + ["--measurements", str(tmp_path / "measurements")]
        + ["--models", str(tmp_path / "models.csv")]
        + ["--released", str(tmp_path / "released.csv")]
    )
    assert code == 0
    return tmp_path, losses, noise


def test_each_protocol_is_compared_with_the_written_one_on_the_same_models(audited):
    folder, losses, noise = audited
    table = read_table(folder / "audit.csv", AuditedProtocol)
    table = table.set_index(["part", "trained", "measured"])
    kept = [seed for seed in range(12) if seed != 5]
    written = table.loc["measuring", "written", "written"]
    assert (written["n"], written["excluded"]) == (11, 1)
    assert written["worst_case_sharpness"] == pytest.approx(noise[kept].mean())
    assert written["worst_case_sharpness_se"] == pytest.approx(stats.sem(noise[kept]))
    assert written["test_loss"] == pytest.approx(losses[kept].mean())
    assert written["test_accuracy"] == pytest.approx(0.5 + np.mean(kept) / 100)
    assert (written["ratio"], written["ratio_se"]) == (1, 0)
    released = table.loc["measuring", "written", "released"]
    assert released["ratio"] == pytest.approx(-2)
    assert released["ratio_se"] == pytest.approx(0, abs=1e-12)  # paired: the models' spread cancels
    assert released["tau"] == pytest.approx(-written["tau"])
    assert written["tau"] == pytest.approx(stats.kendalltau(noise[kept], losses[kept]).statistic)
    strong = table.loc["measuring", "written", "strong"]
    assert (strong["n"], strong["ratio"]) == (3, pytest.approx(3))
    assert table.loc["training", "written", "written"]["n"] == 3
    assert table.loc["both", "released", "released"]["n"] == 3
    assert set(table["description"]) >= set(MEASURING_DEFECTS["gat"].values())
    assert set(table["description"]) >= set(TRAINING_DEFECTS["gat"].values())


def test_every_model_of_every_protocol_has_one_row(audited):
    folder, _, _ = audited
    models = read_table(folder / "models.csv", PoolModel)
    counts = models.groupby(["trained", "measured"]).size()
    assert counts["written", "written"] == 12
    assert counts["written", "strong"] == counts["released", "released"] == 3
    assert not models.duplicated(["trained", "measured", "seed"]).any()
    lost = models[~models["used"]]
    assert set(lost["seed"]) == {5} and set(lost["reason"]) == {"the loss became nan"}


def test_the_audit_is_drawn_the_same_each_time_also_with_too_few_models_for_a_tau(audited):
    folder, _, _ = audited
    table = read_table(folder / "audit.csv", AuditedProtocol)
    few = [
        AuditedProtocol(**row | {"tau": math.nan, "low": math.nan, "high": math.nan})
        if row["part"] == "training"
        else AuditedProtocol(**row | {"worst_case_sharpness": abs(row["worst_case_sharpness"])})
        for row in table.to_dict("records")
    ]
    write_table(folder / "few.csv", few)
    for name in ("a", "b"):
        code = main(
            ["draw-epfl-audit", "--audit", str(folder / "few.csv"), "--dpi", "60"]
            + ["--png", str(folder / f"{name}.png"), "--svg", str(folder / f"{name}.svg")]
        )
        assert code == 0
    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()
    text = (folder / "a.svg").read_text(encoding="utf-8")
    for expected in ("GAT on Cora", "released throughout (3)", "too few models", "published τ"):
        assert expected in text


def test_sharpness_and_tau_of_each_protocol_are_drawn_with_the_published_tau(audited):
    folder, _, _ = audited
    table = read_table(folder / "audit.csv", AuditedProtocol)
    left, right = Figure().subplots(1, 2)
    draw_sharpness(left, table)
    draw_tau(right, table)
    for axis, quantity in ((left, "worst_case_sharpness"), (right, "tau")):
        points = np.column_stack([table[quantity], range(len(table))])
        np.testing.assert_allclose(axis.containers[0].lines[0].get_xydata(), points)
    [published] = [line for line in right.lines if line.get_label() == "published τ"]
    assert set(published.get_xdata()) == {table["published_tau"][0]}


@pytest.mark.parametrize(("split_sd", "bars"), [(0.1, 2), (math.nan, 1)])
def test_the_spread_over_pools_and_the_splits_part_stand_behind_the_replicated_protocol(
    audited, split_sd, bars
):
    folder, _, _ = audited
    table = read_table(folder / "audit.csv", AuditedProtocol)
    lower = table[table["part"] != "measuring"]
    spread = pd.Series(
        {"trained": "released", "measured": "released", "replications": 8, "splits": 4}
        | {"mean_tau": -0.2, "sd": 0.3, "split_sd": split_sd}
    )
    axis = Figure().subplots()
    draw_spread(axis, lower, spread)
    assert [patch.get_x() for patch in axis.patches] == pytest.approx([-0.5, -0.3][:bars])
    assert [patch.get_width() for patch in axis.patches] == pytest.approx([0.6, 0.2][:bars])
    place = list(lower["part"]).index("both")
    assert {patch.get_y() + patch.get_height() / 2 for patch in axis.patches} == {place}


def test_the_error_of_a_ratio_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)
    base = rng.normal(2, 0.4, size=(4000, 20))
    changed = 3 * base + rng.normal(0, 0.6, size=base.shape)
    found = np.array(
        [ratio_of_means(pd.Series(a), pd.Series(b)) for a, b in zip(changed, base, strict=True)]
    )
    ratios, errors = found.T
    assert ratios.mean() == pytest.approx(3, abs=0.01)
    assert np.sqrt((errors**2).mean()) == pytest.approx(ratios.std(), rel=0.05)


def test_the_released_protocol_is_held_against_its_source_in_mean_spread_loss_and_accuracy(audited):
    folder, _, noise = audited
    found = read_table(folder / "released.csv", SourceComparison)
    figure = found[found["origin"] == "published figure"].set_index("compared")
    assert set(figure.index) == {
        "worst_case_sharpness", "worst_case_sharpness_sd", "test_loss", "test_loss_sd", "tau"
    }  # fmt: skip
    assert set(found["compared"]) >= {"test_accuracy"}
    row = figure.loc["worst_case_sharpness"]
    assert row["ours"] == pytest.approx(-2 * noise[:3].mean())
    assert row["error"] == pytest.approx(2 * stats.sem(noise[:3]))
    assert row["source_value"] == pytest.approx(0.181, abs=1e-3)
    error = math.hypot(row["error"], row["source_error"])
    assert row["z"] == pytest.approx((row["ours"] - row["source_value"]) / error)
    assert row["differs"] and abs(row["z"]) > 3
    assert figure.loc["worst_case_sharpness_sd", "ours"] == pytest.approx(2 * noise[:3].std(ddof=1))


def made_up_released(scale=1.0, demo=False):
    """Fifty models whose sharpness and loss are spread as the published dots of the GAT are."""
    draws = np.random.default_rng(0).normal(size=(2, 50))
    draws = (draws - draws.mean(1, keepdims=True)) / draws.std(1, ddof=1, keepdims=True)
    lines = [trained(seed, 1.614 + 0.052 * loss) for seed, loss in enumerate(draws[0])]
    joined = pd.DataFrame([line.model_dump() for line in lines])
    return joined.assign(used=True, demo=demo, worst_case_sharpness=0.18 + 0.2 * scale * draws[1])


def test_a_pool_that_has_the_sources_mean_and_tau_but_not_its_spread_differs():
    def differing(**changes):
        rows = against_source("gat", made_up_released(**changes), STATISTICS)
        return {row.compared for row in rows if row.origin == "published figure" and row.differs}

    assert differing() == set()
    assert differing(scale=0.4) == {"worst_case_sharpness_sd"}
    assert differing(scale=0.4, demo=True) == set()
