"""Declared tables: round trip, and one clear message for each kind of damage."""

import math

import pytest

from flatness.errors import DataError
from flatness.records.tables import (
    Provenance,
    Row,
    column,
    data_dictionary,
    provenance,
    read_table,
    read_tables,
    read_text,
    read_values,
    write_table,
)


class Point(Row):
    name: str = column("a name")
    value: float = column("a value", unit="m", symbol="v")
    count: int = column("a count")
    good: bool = column("a flag")


POINTS = [
    Point(name='a, "b"', value=1 / 3, count=2, good=True),
    Point(name="", value=math.nan, count=0, good=False),
    Point(name="nan", value=-math.inf, count=-1, good=True),
]


def test_round_trip_keeps_every_digit_and_type(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, POINTS)
    frame = read_table(path, Point)
    assert list(frame.columns) == list(Point.model_fields)
    assert frame["value"][0] == 1 / 3
    assert math.isnan(frame["value"][1])
    assert frame["value"][2] == -math.inf
    assert frame["name"].tolist() == ['a, "b"', "", "nan"]
    assert frame["good"].tolist() == [True, False, True]


def test_same_rows_same_bytes(tmp_path):
    write_table(tmp_path / "a.csv", POINTS)
    write_table(tmp_path / "b.csv", POINTS)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value", "valeu", r"columns missing: \['value'\], unknown: \['valeu'\]"),
        (str(1 / 3), "abc", "row 1, column value: .*'abc'"),
        ("True", "maybe", "row 1, column good"),
    ],
)
def test_damage_is_named(tmp_path, old, new, message):
    path = tmp_path / "t.csv"
    write_table(path, POINTS)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv.*" + message):
        read_table(path, Point)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such table"):
        read_table(tmp_path / "none.csv", Point)
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty\.csv"):
        read_table(tmp_path / "empty.csv", Point)


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="without rows"):
        write_table(tmp_path / "t.csv", [])
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("torch_version", "1.0", "versions of PyTorch: 1.0, "),
        ("instruction_set", "ABACUS", "instruction sets: ABACUS, "),
    ],
)
def test_rows_made_differently_are_warned_of(tmp_path, capsys, column, value, words):
    row = Provenance(**provenance("abc"))
    write_table(tmp_path / "a.csv", [row])
    write_table(tmp_path / "b.csv", [row.model_copy(update={column: value})])
    assert len(read_tables([tmp_path / "a.csv"], Provenance)) == 1
    assert capsys.readouterr().err == ""
    read_tables([tmp_path / "a.csv", tmp_path / "b.csv"], Provenance)
    assert f"different {words}" in capsys.readouterr().err


def test_data_dictionary_holds_every_column():
    dictionary = data_dictionary([Point])
    assert dictionary["column"].tolist() == list(Point.model_fields)
    assert dictionary.loc[1, ["unit", "symbol", "description"]].tolist() == ["m", "v", "a value"]


def test_a_table_of_any_columns_is_read_as_text_or_as_values(tmp_path):
    """`NA` and empty cells are texts; nan alone is a missing number."""
    path = tmp_path / "table.csv"
    path.write_text("name,reason,tau\nNA,,nan\n01,diverged,0.5\n", encoding="utf-8")
    assert read_text(path).to_dict("list") == {
        "name": ["NA", "01"], "reason": ["", "diverged"], "tau": ["nan", "0.5"],
    }  # fmt: skip
    values = read_values(path)
    assert list(values["reason"]) == ["", "diverged"]
    assert math.isnan(values["tau"][0]) and values["tau"][1] == 0.5


@pytest.mark.parametrize("read", [read_text, read_values])
def test_a_file_that_is_no_table_is_named(tmp_path, read):
    path = tmp_path / "table.csv"
    with pytest.raises(DataError, match=r"table\.csv: no such table"):
        read(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.csv: not a readable CSV table"):
        read(path)
