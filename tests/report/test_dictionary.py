import importlib
import pkgutil
from pathlib import Path

import pandas as pd
import pytest

import flatness
from checkout import ROOT
from flatness.records.tables import Provenance, Row, data_dictionary
from flatness.report.dictionary import OTHER_TABLES, TABLES, dictionary, row_of
from flatness.studies.checkpoint_row import CheckpointRow

REFERENCE = ROOT / "results/reference/laptop"
#: All tables' rows.
ROWS = {*TABLES.values(), *OTHER_TABLES.values()}
#: Bases of other rows.
BASES = {
    Row,
    Provenance,
    *(
        getattr(importlib.import_module(f"flatness.{module}"), name)
        for module, name in (
            ("studies.chen.measured_rows", "FamilyComparison"),
            ("studies.chen.rows", "Checkpoint"),
            ("studies.chen.measured_rows", "_MeasuredCheckpoint"),
            ("studies.transformers.rows", "VitQuantities"),
        )
    ),
}


def every_row():
    """All row models of the package."""
    for module in pkgutil.walk_packages(flatness.__path__, "flatness."):
        if module.name != "flatness.__main__":
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, Row):
                    yield value


def test_every_row_model_has_its_files():
    assert set(every_row()) - BASES == ROWS


def test_one_line_per_column(tmp_path):
    output = tmp_path / "dictionary.csv"
    dictionary(output)
    found = pd.read_csv(output, keep_default_na=False)
    assert len(found) == sum(len(row.model_fields) for row in ROWS)
    line = found[(found["column"] == "mls") & found["files"].str.contains("chen")].iloc[0]
    assert line["symbol"]
    assert "correlations/chen/*/checkpoints.csv" in line["files"]


def test_a_name_has_one_description():
    found = data_dictionary(ROWS)
    several = found.groupby("column")["description"].unique()
    assert not {name: list(texts) for name, texts in several.items() if len(texts) > 1}


def test_a_users_own_table_is_there_and_below_no_results(tmp_path):
    output = tmp_path / "dictionary.csv"
    dictionary(output)
    found = pd.read_csv(output, keep_default_na=False)
    lines = found[found["files"] == "the output of flatness measure"]
    assert list(lines["column"]) == list(CheckpointRow.model_fields)
    with pytest.raises(KeyError):
        row_of(Path("row.csv"))


def test_a_table_is_known_by_its_path():
    assert row_of(Path("correlations/chen/vgg11/bounds.csv")).__name__ == "BoundTightness"
    with pytest.raises(KeyError):
        row_of(Path("other/correlations/chen/vgg11/bounds.csv"))


TABLES_KEPT = sorted(REFERENCE.glob("correlations/**/*.csv"))


@pytest.mark.skipif(not TABLES_KEPT, reason="no reference run is kept")
@pytest.mark.parametrize("path", TABLES_KEPT, ids=lambda path: str(path.relative_to(REFERENCE)))
def test_the_kept_tables_have_the_declared_columns(path):
    columns = pd.read_csv(path, nrows=0).columns
    assert list(columns) == list(row_of(path.relative_to(REFERENCE)).model_fields)
