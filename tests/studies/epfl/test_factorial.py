"""The factorial: which combinations run, what each gives, and what each defect does."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from checkout import shipped
from flatness.__main__ import main
from flatness.datasets.normalised import save
from flatness.errors import UserError
from flatness.pipeline.config import validate
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table
from flatness.studies.epfl.config import measurement, training
from flatness.studies.epfl.defects import (
    MEASURING_DEFECTS,
    TRAINING_DEFECTS,
    combinations_of,
    crossed,
    defects_of,
)
from flatness.studies.epfl.draw.factorial import draw_effects
from flatness.studies.epfl.effects import contrasts, jackknife, leave_one_out
from flatness.studies.epfl.measure import measured_rows
from flatness.studies.epfl.mixed_pools import EARLIER, MIXED, mixed_pool
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.rows import Combination, CrossedModel, DefectEffect
from flatness.studies.epfl.train import train_models
from studies.epfl.made_up_pool import STATISTICS
from studies.epfl.small_pools import table


def small_study(models=4):
    config = shipped()
    config["epfl"]["pools"]["fcnn"] |= {"models": models, "block": models, "batch_size": 16}
    config["epfl"]["pools"]["fcnn"]["ascent"] = {"steps": 2, "restarts": 3, "batch_size": 16}
    config["epfl"]["replications"] = {}
    config["epfl"]["factorial"] = {"fcnn": {"models": models, "block": models}}
    return validate(config).epfl


@pytest.mark.parametrize("pool", ["fcnn", "lenet5", "gat"])
def test_every_combination_of_one_part_meets_both_ends_of_the_other(pool):
    pairs = {(t, m) for t, measured in crossed(pool).items() for m in measured}
    trainings, measurings = (
        combinations_of(k[pool]) for k in (TRAINING_DEFECTS, MEASURING_DEFECTS)
    )
    assert len(set(trainings)) == 2 ** len(TRAINING_DEFECTS[pool])
    assert len(set(measurings)) == 2 ** len(MEASURING_DEFECTS[pool])
    ends = {"written", "released"}
    assert pairs == {
        (t, m) for t, m in product(trainings, measurings) if m in ends or t in ends
    }  # fmt: skip
    assert {frozenset(defects_of(TRAINING_DEFECTS[pool], t)) for t in trainings} == {
        frozenset(name for name, on in zip(TRAINING_DEFECTS[pool], chosen, strict=True) if on)
        for chosen in product([False, True], repeat=len(TRAINING_DEFECTS[pool]))
    }


def test_a_factorial_of_an_unknown_pool_is_refused():
    wrong = shipped()
    wrong["epfl"]["pools"].pop("gat")
    wrong["epfl"] |= {"replications": {}, "audit": {}}
    wrong["epfl"]["factorial"] = {"gat": {"models": 2, "block": 2}}
    with pytest.raises(UserError, match=r"factorial.gat: no such pool"):
        validate(wrong)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, study = tmp_path_factory.mktemp("factorial"), small_study()
    save(folder / "data.safetensors", table())
    command = ["cross-defects", "--settings", canonical_json(study.only("fcnn")), "--device", "cpu"]
    command += ["--data", str(folder / "data.safetensors"), "--seeds", "0-3"]
    command += ["--scratch", str(folder / "scratch"), "--output", str(folder / "models.csv")]
    assert main(command) == 0
    return folder, study, command


def test_a_combination_is_what_training_and_measuring_give_by_themselves(run):
    folder, study, _ = run
    found = read_table(folder / "models.csv", CrossedModel)
    assert len(found) == 4 * (64 * 2 + 2 * 6)
    trained, measured = "elu_output+default_init", "released"
    settings = training(study, "fcnn", trained, "cpu")
    assert settings.defects == ("elu_output", "default_init")
    outcomes = train_models(settings, table(), range(4), folder)
    how = measurement(study, "fcnn", trained, measured, "cpu")
    states = stack([outcome.state for outcome in outcomes])
    rows = measured_rows(how, table(), states, range(4), [""] * 4, folder)
    cell = found[(found["trained"] == trained) & (found["measured"] == measured)]
    assert cell["test_loss"].tolist() == pytest.approx([o.test_loss for o in outcomes])
    assert cell["worst_case_sharpness"].tolist() == pytest.approx(
        [row.worst_case_sharpness for row in rows]
    )


def test_finished_work_is_not_repeated(run, monkeypatch):
    folder, _, command = run
    before = (folder / "models.csv").read_bytes()
    monkeypatch.setattr("flatness.studies.epfl.factorial.train_models", None)
    assert main(command) == 0
    assert (folder / "models.csv").read_bytes() == before


def test_tables_and_figure_follow_from_the_models(run):
    folder, _, _ = run
    cells, effects = folder / "cells.csv", folder / "effects.csv"
    options = ["--statistics", canonical_json(STATISTICS), "--models", str(folder / "models.csv")]
    assert main(["defect-effects", *options, "--cells", str(cells), "--output", str(effects)]) == 0
    table, found = read_table(cells, Combination), read_table(effects, DefectEffect)
    assert len(table) == 64 * 2 + 2 * 6 + 1 and not table["matches"].any()
    tau = table.set_index(["trained", "measured"])["tau"]
    alone = found.query("combined == 'training' and other == 'released' and effect_kind == 'alone'")
    line = alone.query("defects == 'default_init' and compared == 'tau'").iloc[0]
    expected = tau["default_init", "released"] - tau["written", "released"]
    assert line["effect"] == pytest.approx(expected)
    assert (found["low"] <= found["effect"]).all() and (found["effect"] <= found["high"]).all()
    for name in ("a", "b"):
        pictures = [f"--{kind}={folder / name}.{kind}" for kind in ("png", "svg")]
        shown = ["--cells", str(cells), "--effects", str(effects), "--dpi", "60"]
        assert main(["draw-epfl-factorial", *shown, *pictures]) == 0
    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()
    main_effects = found.query("effect_kind == 'main' and compared == 'tau'")
    axis = Figure().add_subplot()
    draw_effects(axis, main_effects)
    drawn = np.concatenate([bars.lines[0].get_xdata() for bars in axis.containers])
    assert sorted(drawn) == pytest.approx(sorted(main_effects["effect"]))


def test_a_mixed_pool_has_the_centres_of_one_and_the_climbed_weights_of_another():
    shared = {"measured": "released", "seed": [0, 1, 2], "used": True}
    climbed = {"trained": EARLIER, "train_loss": 0.5, "worst_case_sharpness": [0.1, 0.2, 0.3]}
    centres = {
        "trained": "released",
        "train_loss": [0.4, 0.3, 0.2],
        "worst_case_sharpness": 9.0,
        "used": [True, True, False],
    }
    others = {"trained": "written", "train_loss": 7.0, "worst_case_sharpness": 7.0}
    parts = [pd.DataFrame(shared | part) for part in (climbed, centres, others)]
    found = mixed_pool(pd.concat(parts, ignore_index=True))
    assert found["seed"].tolist() == [0, 1]
    # 0.5 + 0.2 of seed 1 less 0.4; 0.5 + 0.1 of seed 0 less 0.3
    assert found["worst_case_sharpness"].tolist() == pytest.approx([0.3, 0.3])
    assert set(found["trained"]) == {"released"} and set(found["measured"]) == {MIXED}
    assert mixed_pool(parts[2]).empty


def test_a_seed_is_left_out_of_tau_and_means():
    rng = np.random.default_rng(0)
    used = pd.DataFrame({"seed": [0, 1, 2, 4, 5, 6], "test_loss": rng.normal(size=6)})
    used["worst_case_sharpness"] = [0.3, 0.1, 0.3, 0.5, 0.2, 0.9]  # with a tie
    found = leave_one_out(used, [0, 1, 2, 3, 4, 5, 6])
    for row, seed in zip(found, [None, 0, 1, 2, 3, 4, 5, 6], strict=True):
        rest = used[used["seed"] != seed]
        tau = stats.kendalltau(rest["worst_case_sharpness"], rest["test_loss"]).statistic
        expected = [tau, rest["worst_case_sharpness"].mean(), rest["test_loss"].mean()]
        assert row == pytest.approx(expected)


def test_the_jackknife_of_a_mean_is_students_t():
    values = np.random.default_rng(0).normal(size=12)
    without = [np.delete(values, index).mean() for index in range(12)]
    estimate, error, low, high = jackknife(np.array([values.mean(), *without]), 0.9)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (estimate, error) == pytest.approx((values.mean(), stats.sem(values)))
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_contrasts_find_the_effects_that_were_put_in():
    """q = 1 + 2a − 3b + 5ab, c does nothing: one of a's partners adds to its effect."""
    cells = {
        frozenset(n for n, on in zip("abc", chosen, strict=True) if on): np.array(
            [1 + 2 * chosen[0] - 3 * chosen[1] + 5 * chosen[0] * chosen[1]]
        )
        for chosen in product([0, 1], repeat=3)
    }
    found = {(kind, names): float(q[0]) for kind, names, q in contrasts(cells, tuple("abc"))}
    assert found == {
        ("main", "a"): 2 + 5 / 2,
        ("main", "b"): -3 + 5 / 2,
        ("main", "c"): 0,
        ("interaction", "a × b"): 5 / 2,
        ("interaction", "a × c"): 0,
        ("interaction", "b × c"): 0,
        ("alone", "a"): 2,
        ("alone", "b"): -3,
        ("alone", "c"): 0,
        ("sum alone", ""): -1,
        ("together", ""): 4,
    }
    assert not list(contrasts({frozenset(): np.zeros(1)}, ()))
