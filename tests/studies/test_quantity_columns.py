from flatness.measures.quantities import QUANTITIES
from flatness.records.tables import data_dictionary
from flatness.studies.checkpoint_row import CheckpointRow


def test_the_dictionary_describes_every_column():
    dictionary = data_dictionary([CheckpointRow]).set_index("column")
    for name, quantity in QUANTITIES.items():
        line = dictionary.loc[name]
        assert line["symbol"] == quantity.symbol and line["convention"] == quantity.convention
        assert quantity.description in line["description"]
        assert dictionary.loc[f"{name}_se", "unit"] == quantity.unit
