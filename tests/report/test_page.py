import re
from html.parser import HTMLParser

import pytest

import made_up_results
from flatness.errors import UserError
from flatness.records.tables import read_table
from flatness.report.ledger import Outcome
from flatness.report.page import report

VOID = {"meta", "link", "br", "img", "line", "circle", "path"}


class Page(HTMLParser):
    """Addresses of a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.images += [attributes["src"]] if "src" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def made(results):
    report(
        results=results,
        ledger=results / "report/claims.csv",
        html=results / "report.html",
    )
    return (results / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def results(tmp_path):
    results = tmp_path / "laptop"
    made_up_results.pool(results, lost=(3,))
    made_up_results.family(results, "vgg11")
    made_up_results.transformers(results)
    for name in ("epfl_fig1", "chen_scatter_vgg11", "cross_measures"):
        made_up_results.picture(results, name)
    made_up_results.benchmark(results, "train/epfl/fcnn/written/0-24", 90)
    return results


def test_the_page_needs_nothing_but_itself(results):
    text = made(results)
    page = Page(text)
    assert len(page.images) == 3
    assert all(image.startswith("data:image/png;base64,") for image in page.images)
    assert "://" not in re.sub(r"data:[^\"]*", "", text)
    assert "<script" not in text
    assert "@import" not in text


def test_every_link_leads_somewhere(results):
    page = Page(made(results))
    links = [link for link in page.links if link != "data:,"]
    assert len(links) > 8
    for link in links:
        found = link[1:] in page.ids if link.startswith("#") else (results / link).is_file()
        assert found, link
    assert len(set(page.ids)) == len(page.ids)


def test_the_page_holds_ledger_figures_left_out_models_and_costs(results):
    text = made(results)
    assert "✓ 2 reproduced" in text
    assert "-0.30 [-0.50, -0.10]" in text
    assert "95 interpolate" in text
    assert "the loss became nan in epoch 2" in text
    assert "levit_b" in text
    assert "1.5 minutes of jobs" in text
    assert "Both papers" in text
    assert "Not drawn in this run" in text
    assert "Demo data" not in text
    assert text.index('id="claims"') < text.index("<img")


def test_the_ledger_is_written_as_a_table(results):
    made(results)
    ledger = read_table(results / "report/claims.csv", Outcome).set_index("id")
    assert ledger.loc["tau-fcnn", "verdict"] == "reproduced"
    assert ledger.loc["tau-gat", "verdict"] == "not run here"


def test_demo_data_are_marked(tmp_path):
    made_up_results.pool(tmp_path, demo=True)
    assert "Demo data" in made(tmp_path)


def test_an_empty_run_has_a_page(tmp_path):
    text = made(tmp_path / "laptop")
    Page(text)
    assert "None of its claims was run." in text
    assert "No model diverged" in text


def test_text_of_tables_is_escaped(results):
    path = results / "correlations/transformers/models.csv"
    path.write_text(
        path.read_text(encoding="utf-8").replace("levit_b", "<script>b"), encoding="utf-8"
    )
    text = made(results)
    assert "&lt;script&gt;b" in text


def test_a_page_that_grows_too_large_is_refused(results):
    figure = results / "figures/epfl_fig1.png"
    figure.write_bytes(figure.read_bytes() + bytes(8_000_000))
    with pytest.raises(UserError, match=r"10\.7 MB, more than 10; lower figures\.dpi"):
        made(results)
    assert not (results / "report.html").exists()


def test_the_same_tables_give_the_same_page(results):
    assert made(results) == made(results)


def test_a_released_protocol_that_differs_from_its_source_is_shown(results):
    assert "released" not in Page(made(results)).ids
    made_up_results.audit(results)
    text = made(results)
    assert "released" in Page(text).ids
    for expected in ("0.090 ± 0.010 (10)", "0.200 ± 0.020 (50)", "-4.9", "✗ differs"):
        assert expected in text
