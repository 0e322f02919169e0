import base64

import made_up_results
from flatness.report.gallery import figures, missing_figures


def test_figures_come_in_the_order_of_their_list_unknown_ones_not_at_all(tmp_path):
    for name in ("old_figure", "epfl_fig1", "chen_scatter_vgg11", "chen_fig3"):
        made_up_results.picture(tmp_path, name)
    shown = figures(tmp_path)
    names = [figure.name for figure in shown]
    assert names == ["chen_fig3", "chen_scatter_vgg11", "epfl_fig1"]
    assert shown[1].heading == "Every pair of quantities: VGG-11"
    encoded = shown[0].image.removeprefix("data:image/png;base64,")
    assert base64.b64decode(encoded) == (tmp_path / "figures/chen_fig3.png").read_bytes()
    assert shown[0].size == (2, 1)


def test_a_figure_says_what_stands_behind_it(tmp_path):
    made_up_results.picture(tmp_path, "chen_scatter_vgg11")
    made_up_results.picture(tmp_path, "epfl_fig1")
    made_up_results.family(tmp_path, "vgg11")
    made_up_results.family(tmp_path, "lenet5")
    made_up_results.pool(tmp_path, "gat", lost=(1,))
    made_up_results.benchmark(tmp_path, "train/chen/vgg11/a/0-4", 60)
    made_up_results.benchmark(tmp_path, "train/chen/lenet5/a/0-4", 600)
    scatter, fig1 = figures(tmp_path)
    assert scatter.counts == ("vgg11: 97 models, 3 left out",)
    assert scatter.tables == ("correlations/chen/vgg11/correlations.csv",)
    assert scatter.minutes == 1
    assert fig1.counts == ("gat written written: 49 models, 1 left out",)


def test_replications_are_counted_as_such(tmp_path):
    made_up_results.picture(tmp_path, "epfl_replications")
    made_up_results.replications(tmp_path, "gat", count=7)
    [figure] = figures(tmp_path)
    assert figure.counts == ("gat written written: 7 replications",)
    assert "replication" in figure.caption


def test_replications_as_released_are_counted_apart(tmp_path):
    made_up_results.picture(tmp_path, "epfl_replications_released")
    made_up_results.replications(tmp_path, "gat", count=7)
    [figure] = figures(tmp_path)
    assert figure.counts == ()
    made_up_results.replications(tmp_path, "gat", count=3, protocol="released")
    [figure] = figures(tmp_path)
    assert figure.counts == ("gat released released: 3 replications",)
    assert "as released" in figure.caption


def test_each_pools_audit_counts_its_own_models(tmp_path):
    made_up_results.picture(tmp_path, "epfl_audit_gat")
    made_up_results.audit(tmp_path, "fcnn")
    made_up_results.audit(tmp_path, "gat", lost=(2,))
    [figure] = figures(tmp_path)
    assert figure.counts == ("gat: 9 models, 1 left out",)
    assert figure.heading == "Written, strong, released: GAT"
    assert figure.caption.endswith(f"; config {tmp_path.name}.")


def test_a_partial_run_shows_what_it_has(tmp_path):
    made_up_results.picture(tmp_path, "chen_fig3")
    [figure] = figures(tmp_path)
    assert (figure.counts, figure.tables, figure.minutes) == ((), (), 0)
    missing = missing_figures(tmp_path)
    assert "chen_fig3" not in missing
    assert {"epfl_fig1", "chen_scatter_{member}"} <= set(missing)
    assert figures(tmp_path / "nowhere") == []
