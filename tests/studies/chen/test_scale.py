import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from flatness.__main__ import main
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table, write_table
from flatness.statistics.correlations import NO_INTERVAL, Interval, jackknife_interval
from flatness.statistics.settings import Statistics
from flatness.studies.chen.draw.scale import draw_scale
from flatness.studies.chen.matched import END
from flatness.studies.chen.scale import CLAIMED, ScaleCorrelation, verdict
from studies.chen.small_study import made_up_family

STATISTICS = Statistics(resamples=100, confidence=0.95, seed=0)


def families(tmp_path, *changes, seeds=6):
    """Tables of the same models on 40, 400, … images, each row changed by a function."""
    paths = []
    for index, change in enumerate(changes):
        family = f"vgg{index}"
        rows = made_up_family(family, network="vgg11", seeds=seeds, sampled=("train",))
        rows = [change(row.model_copy(update={"train_size": 40 * 10**index})) for row in rows]
        paths.append(tmp_path / f"{family}.csv")
        write_table(paths[-1], rows)
    return paths


def compared(tmp_path, paths):
    tables = [f"--checkpoints={path}" for path in paths]
    code = main(
        ["compare-scales", "--statistics", canonical_json(STATISTICS), "--scale", "vgg"]
        + [*tables, "--output", str(tmp_path / "scale.csv")]
    )
    assert code == 0
    return read_table(tmp_path / "scale.csv", ScaleCorrelation)


def as_it_is(row):
    return row


def against(row):
    """A model whose MLS falls where √S rises."""
    return row.model_copy(update={"mls": 3 - row.mls})


def test_a_correlation_that_turns_with_size_is_an_artefact_of_small_scale(tmp_path):
    table = compared(tmp_path, families(tmp_path, against, as_it_is))
    rows = table[(table["at"] == END) & (table["x"] == "root_sharpness") & (table["y"] == "mls")]
    few, many = rows.to_dict("records")
    assert (few["train_size"], many["train_size"]) == (40, 400)
    assert few["estimate"] < 0 < many["low"]
    assert many["change"] == pytest.approx(many["estimate"] - few["estimate"])
    assert (few["effect_of_scale"], many["effect_of_scale"]) == ("", "artefact of small scale")
    assert np.isnan(few["change"]) and few["n"] == many["n"] == 30


def test_only_models_that_have_values_on_every_size_count(tmp_path):
    def lost(row):
        gone = row.seed == 2 and row.setting == "lr0.1_batch8"
        return row.model_copy(update={"mls": np.nan}) if gone else row

    paths = families(tmp_path, as_it_is, lost, as_it_is)
    table = compared(tmp_path, paths)
    rows = table[(table["at"] == END) & (table["x"] == "root_sharpness")].set_index("y")
    assert rows.loc["mls", ["n", "excluded"]].values.tolist() == [[29, 1]] * 3
    assert rows.loc["nmls", ["n", "excluded"]].values.tolist() == [[30, 0]] * 3
    first = pd.read_csv(paths[0])
    models = first[first["last"]]
    models = models[~((models["seed"] == 2) & (models["setting"] == "lr0.1_batch8"))]
    a, b = np.sqrt(models["sharpness"].to_numpy()), models["mls"].to_numpy()
    interval = jackknife_interval(
        lambda kept: float(np.corrcoef(a[kept], b[kept])[0, 1]),
        models["seed"].to_numpy(), confidence=0.95,
    )  # fmt: skip
    found = rows.loc["mls"].iloc[0]
    assert found["estimate"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


def test_the_figure_draws_every_claimed_pair_with_its_verdict(tmp_path, monkeypatch):
    compared(tmp_path, families(tmp_path, against, as_it_is))
    drawn = []
    monkeypatch.setattr(
        "flatness.studies.chen.draw.scale.save_figure",
        lambda figure, *paths, **options: drawn.append(figure),
    )
    draw_scale([tmp_path / "scale.csv"], tmp_path / "s.png", tmp_path / "s.svg")
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert len(titles) == len(CLAIMED)
    assert "√S and MLS\nend (30): artefact of small scale" in titles[1]
    line = drawn[0].axes[1].containers[0].lines[0]
    assert line.get_xdata().tolist() == [40, 400]
    plt.close(drawn[0])


@pytest.mark.parametrize(
    ("most", "change", "said"),
    [
        ((0.1, 0.6), (0.2, 0.9), "artefact of small scale"),
        ((0.1, 0.6), (-0.2, 0.9), "reproduced"),
        ((0.01, 0.1), (-0.2, 0.9), "reproduced"),
        ((-0.5, 0.19), (0.2, 0.9), "not reproduced"),
        ((-0.5, 0.3), (0.2, 0.9), "inconclusive"),
    ],
)
def test_the_rules(most, change, said):
    assert verdict(Interval(*most, 0.5), Interval(*change, 0.5)) == said


def test_without_an_interval_nothing_is_concluded():
    assert verdict(NO_INTERVAL, NO_INTERVAL) == "inconclusive"


def test_families_of_one_size_are_refused(tmp_path, capsys):
    paths = families(tmp_path, as_it_is)
    code = main(
        ["compare-scales", "--statistics", canonical_json(STATISTICS), "--scale", "vgg"]
        + [*[f"--checkpoints={paths[0]}"] * 2, "--output", str(tmp_path / "scale.csv")]
    )
    assert code != 0
    assert "equally many training images" in capsys.readouterr().err
