"""The FCNN pool that the published figure seems to show: a mixture of the weights of two pools.

The notebook saves each model's weights after training and after its ascent, by the model's number.
The losses that it prints in training and in the ascent differ by the sharpness of the figure, as
their distributions show; yet over the models the two losses are uncorrelated. Training and ascent
at the report's learning rate, 0.014, give the losses that the ascent prints, while the printed
training has 0.102. So the weights after the ascent seem to come from an earlier pool. The numbers
are in `published/fcnn_printed.csv`.
"""

import numpy as np
import pandas as pd

from flatness.studies.epfl.defects.fcnn import TRAINING

#: The measuring protocol of the rows, beside those that are combinations of defects.
MIXED = "mixed_pools"
#: How the earlier pool was trained.
EARLIER = "+".join(name for name in TRAINING if name != "found_learning_rate")


def mixed_pool(table: pd.DataFrame) -> pd.DataFrame:
    """Models trained as released, with a sharpness like that of the figure.

    A model is paired with the climbed weights of the next seed, since those of its own seed began
    at the same initial weights.

    Args:
        table: rows of `CrossedModel` of the FCNN.

    Returns:
        The rows measured `MIXED`; none if the table lacks one of the pools.
    """
    measured = table[(table["measured"] == "released") & table["used"]].set_index("seed")
    climbed = measured[measured["trained"] == EARLIER].sort_index()
    climbed = climbed["train_loss"] + climbed["worst_case_sharpness"]
    centres = measured[measured["trained"] == "released"].sort_index()
    shared = centres.index.intersection(climbed.index)
    centres, climbed = centres.loc[shared], climbed.loc[shared]
    sharpness = np.roll(climbed.to_numpy(), -1) - centres["train_loss"]
    changed = {"measured": MIXED, "worst_case_sharpness": sharpness}
    return centres.assign(**changed).reset_index()
