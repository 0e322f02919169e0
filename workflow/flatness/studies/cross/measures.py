"""The measures that are compared with test loss, and where they are not defined."""

#: Measures that `flatness.measures.measure` gives, in the order of tables and figure.
COMPRESSION = (
    "sharpness",
    "mls",
    "nmls",
    "bound_d_released",
    "nmls_bound_released",
    "normalized_mls",
    "log_volume_top3",
    "local_dimensionality",
    "average_case_sharpness",
    "relative_flatness",
)

#: Adaptive worst-case sharpness by sign ascent, on the families; on pools the name ends with the
#: measuring protocol.
STRONG = "worst_case_strong"
WORST_CASE = "worst_case_"

#: Columns of the table of models with which measures are correlated.
LOSSES = ("test_loss", "loss_gap")

_NOT_ONE_INPUT = (
    "a node's output depends on its neighbours' features too, so no layer has one input x^l"
)
#: Maps a pool and a measure to the reason why the measure is not defined there.
NOT_DEFINED = {
    "fcnn": {},
    "lenet5": {},
    "gat": {
        "nmls": _NOT_ONE_INPUT,
        "bound_d_released": _NOT_ONE_INPUT,
        "nmls_bound_released": _NOT_ONE_INPUT,
        "relative_flatness": "the output is not a linear layer's",
    },
}
