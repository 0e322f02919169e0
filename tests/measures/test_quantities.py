from flatness.measures.quantities import BOUND_NAMES, QUANTITIES
from flatness.records.tables import data_dictionary
from flatness.studies.checkpoint_row import CheckpointRow

NAMED = """sharpness mls nmls jacobian_norm_squared local_dimensionality log_volume_top3 log_lvr
log_nvr normalized_mls input_invariant_mls bound_b bound_c bound_d nmls_bound log_lvr_bound_jacobian
log_lvr_bound log_nvr_bound average_case_sharpness relative_flatness rank
average_case_sharpness_sampled"""


def test_every_quantity_asked_for_is_there():
    assert set(NAMED.split()) <= set(QUANTITIES)
    for name in BOUND_NAMES:
        kind = "heuristic" if name.endswith("_released") else "theorem"
        assert QUANTITIES[name].kind == kind


def test_the_dictionary_describes_every_column():
    dictionary = data_dictionary([CheckpointRow]).set_index("column")
    for name, quantity in QUANTITIES.items():
        line = dictionary.loc[name]
        assert line["symbol"] == quantity.symbol and line["convention"] == quantity.convention
        assert quantity.description in line["description"]
        assert dictionary.loc[f"{name}_se", "unit"] == quantity.unit
    by_loss = {n for n, q in QUANTITIES.items() if "1/(2n)" in q.convention}
    assert {"sharpness", "average_case_sharpness", "relative_flatness", "bound_d"} <= by_loss
