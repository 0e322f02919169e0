"""The explorable page: its numbers are those of the tables, and it needs nothing but itself."""

import base64
import gzip
import json
import math
import re

import pandas as pd
import pytest

import made_up_results
from checkout import ROOT
from flatness.errors import DataError, UserError
from flatness.records import layout
from flatness.records.tables import read_values
from flatness.report import explore
from flatness.report.claims import read_claims
from flatness.report.page import report
from flatness.studies.chen.matched import LOSSES, at_loss, at_name
from flatness.studies.chen.quantities import last_on_train, with_derived
from flatness.studies.epfl.published import scatter

REFERENCE = ROOT / "results/reference/laptop"


def unpacked(page, name):
    """What a part of the page holds, as the browser unpacks it."""
    packed = re.search(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)[1]
    return gzip.decompress(base64.b64decode(packed)).decode()


@pytest.fixture(scope="module")
def page():
    return explore.render(REFERENCE)


@pytest.fixture(scope="module")
def data(page):
    return json.loads(unpacked(page, "data"))


def view_of(data, name, view):
    [found] = [entry for entry in data["sets"] if entry["id"] == name]
    return next(entry for entry in found["views"] if entry["name"] == view)


def check(points, table, names):
    """Every number of a table stands in the page, to its digits."""
    compared = 0
    for name in names:
        for ours, theirs in zip(points[name], table[name], strict=True):
            if math.isfinite(theirs):
                assert ours == pytest.approx(theirs, rel=1e-5), name
                compared += 1
            else:
                assert ours is None, name
    assert compared


@pytest.mark.parametrize("family", ["lenet5", "mlp_relu", "mlp_tanh", "vgg11", "optimizers"])
def test_families_stand_at_equal_steps_at_equal_losses_and_along_training(data, family):
    table = with_derived(read_values(REFERENCE / layout.CHEN_CHECKPOINTS.format(family=family)))
    names = ["mls", "mls_se", "nmls", "bound_d_released", "bound_d_released_se", "root_sharpness"]
    expected = {"end of training": last_on_train(table)}
    expected |= {at_name(loss): at_loss(table, loss) for loss in LOSSES}
    runs = table.groupby(["setting", "seed", "sampled"])["step"].transform("nunique")
    for sampled, part in table[runs > 1].groupby("sampled"):
        expected[f"along training, {sampled}"] = part
    [found] = [entry for entry in data["sets"] if entry["id"] == f"chen/{family}"]
    drawn = {name for name, part in expected.items() if part["mls"].notna().any()}
    assert {view["name"] for view in found["views"]} == drawn
    for name in drawn:
        check(view_of(data, f"chen/{family}", name)["points"], expected[name], names)


def test_transformers_stand_in_the_plane_of_figure_4_by_both_estimators(data):
    table = read_values(REFERENCE / layout.VIT_MODELS)
    for estimator, part in table.groupby("estimator"):
        view = view_of(data, "transformers", estimator)
        assert (view["x"], view["y"]) == ("normalized_mls", "average_case_sharpness")
        names = [view["x"], view["y"], f"{view['x']}_se", f"{view['y']}_se"]
        check(view["points"], part, names)
        assert view["points"]["hollow"] == [not used for used in part["used"]]


@pytest.mark.parametrize("pool", ["fcnn", "lenet5", "gat"])
def test_pools_stand_beside_the_published_dots(data, pool):
    found = {
        path: read_values(path) for path in layout.files(REFERENCE, layout.POOL_MODELS, pool=pool)
    }
    dots = scatter(pool)
    names = ["worst_case_sharpness", "test_loss"]
    assert found
    for path, table in found.items():
        points = view_of(data, f"epfl/{pool}", "/".join(path.parts[-3:-1]))["points"]
        check(points, pd.concat([table, dots]), names)
        assert points["group"].count(data["published"]) == len(dots)
        assert all(points["hollow"][len(table) :])


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("audit", layout.AUDITED_MODELS), ("replications", layout.REPLICATED_MODELS)],
)
def test_audits_and_replications_are_there_too(data, kind, pattern):
    for path in layout.files(REFERENCE, pattern):
        for (pool, trained, measured), part in read_values(path).groupby(
            ["pool", "trained", "measured"]
        ):
            points = view_of(data, f"epfl/{pool}", f"{kind} {trained}/{measured}")["points"]
            check(points, part, ["worst_case_sharpness", "test_loss"])


def test_every_measure_of_both_papers_stands_against_the_losses(data):
    table = read_values(REFERENCE / layout.CROSS_MODELS)
    for (study, models, measure), part in table.groupby(["study", "models", "measure"]):
        points = view_of(data, f"cross/{study}/{models}", "models")["points"]
        part = part.sort_values(["setting", "seed"]).rename(columns={"value": measure})
        assert points["name"] == [f"seed {seed}" for seed in part["seed"]]
        if part[measure].notna().any():
            check(points, part, [measure, "test_loss", "loss_gap"])


def test_every_table_of_models_has_its_scatter(data):
    patterns = (
        layout.CHEN_CHECKPOINTS, layout.VIT_MODELS, layout.POOL_MODELS, layout.AUDITED_MODELS,
        layout.REPLICATED_MODELS, layout.CROSS_MODELS,
    )  # fmt: skip
    tables = {str(p.relative_to(REFERENCE)) for k in patterns for p in layout.files(REFERENCE, k)}
    assert {name for entry in data["sets"] for name in entry["tables"]} == tables


def test_every_claim_of_the_ledger_leads_to_the_scatter_that_it_reads(data):
    ledger = read_values(REFERENCE / layout.LEDGER)
    assert [claim["id"] for claim in data["claims"]] == list(ledger["id"])
    views = {
        (entry["id"], view["name"]): view["points"]
        for entry in data["sets"]
        for view in entry["views"]
    }
    for claim, line in zip(data["claims"], ledger.to_dict("records"), strict=True):
        assert claim["verdict"].startswith(line["verdict"])
        assert claim["statement"] == line["statement"]
        if math.isfinite(line["low"]):
            ends = [float(end) for end in re.findall(r"[+-][\d.]+", claim["value"])[-2:]]
            assert ends == pytest.approx([line["low"], line["high"]], abs=0.0051), claim["id"]
        assert claim["shown"] == ((claim["set"], claim["view"]) in views)
        if claim["x"] and line["verdict"] != "not run here":
            points = views[claim["set"], claim["view"]]
            assert claim["x"] in points and claim["y"] in points, claim["id"]


def test_claims_without_a_scatter_of_their_own_are_few():
    known = read_claims()
    without = [
        entry.id
        for entry in (*known.claims, *known.checks)
        if not explore.scatter_of(entry.table, entry.where)["x"]
    ]
    kinds = ("contrasts.csv", "bounds.csv")
    expected = [e.id for e in (*known.claims, *known.checks) if e.table.endswith(kinds)]
    assert without == expected


def test_the_page_is_small_and_asks_the_network_for_nothing(page):
    assert len(page.encode()) < 10_000_000
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"", markup)
    assert len(addresses) > 10
    assert all(address.startswith("data:") for address in addresses)
    assert "://" not in re.sub(r"data:[^\"]*", "", markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_without_scripts_every_picture_is_there(page):
    pictures = re.search(r"<noscript>(.*?)</noscript>", page, re.DOTALL)[1]
    assert pictures.count("<img") == len(layout.files(REFERENCE, layout.PICTURE))


def results_of(tmp_path, **options):
    results = tmp_path / "laptop"
    made_up_results.pool(results, **options)
    report(results=results, ledger=results / layout.LEDGER, html=results / layout.PAGE)
    return results


def test_demo_data_are_marked_and_stand_beside_no_published_dots(tmp_path):
    page = explore.render(results_of(tmp_path, demo=True))
    assert "Demo data" in page
    view = view_of(json.loads(unpacked(page, "data")), "epfl/fcnn", "written/written")
    assert set(view["points"]["group"]) == {"ours"}


def test_a_model_that_was_left_out_is_there_with_its_reason(tmp_path):
    data = explore.page_data(results_of(tmp_path, lost=(3,)))
    points = view_of(data, "epfl/fcnn", "written/written")["points"]
    assert points["reason"][3] == "the loss became nan in epoch 2"
    assert points["hollow"][:5] == [False, False, False, True, False]


def test_the_same_tables_give_the_same_page(tmp_path):
    results = results_of(tmp_path)
    assert explore.render(results) == explore.render(results)


def test_a_claim_that_was_not_run_leads_nowhere(tmp_path):
    claims = {claim["id"]: claim for claim in explore.page_data(results_of(tmp_path))["claims"]}
    assert claims["tau-fcnn"]["shown"]
    assert not claims["tau-gat"]["shown"]
    assert not claims["released-fcnn"]["shown"]


def test_a_page_that_grows_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "LARGEST_PAGE", 1_000_000)
    output = tmp_path / "explore.html"
    with pytest.raises(UserError, match="MB, more than"):
        explore.explore(results_of(tmp_path), output)
    assert not output.exists()


def test_a_run_without_a_ledger_is_named(tmp_path):
    made_up_results.pool(tmp_path)
    with pytest.raises(DataError, match=r"claims\.csv: no such table"):
        explore.render(tmp_path)
