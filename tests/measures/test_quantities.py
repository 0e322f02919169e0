from flatness.measures.quantities import BOUND_NAMES, QUANTITIES

NAMED = """sharpness mls nmls jacobian_norm_squared local_dimensionality log_volume_top3 log_lvr
log_nvr normalized_mls input_invariant_mls bound_b bound_c bound_d nmls_bound log_lvr_bound_jacobian
log_lvr_bound log_nvr_bound average_case_sharpness relative_flatness rank
average_case_sharpness_sampled"""


def test_every_quantity_asked_for_is_there():
    assert set(NAMED.split()) <= set(QUANTITIES)
    for name in BOUND_NAMES:
        kind = "heuristic" if name.endswith("_released") else "theorem"
        assert QUANTITIES[name].kind == kind


def test_what_depends_on_the_loss_says_so():
    by_loss = {n for n, q in QUANTITIES.items() if "1/(2n)" in q.convention}
    assert {"sharpness", "average_case_sharpness", "relative_flatness", "bound_d"} <= by_loss
