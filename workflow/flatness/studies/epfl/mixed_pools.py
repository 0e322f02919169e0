"""The FCNN pool that the published figure seems to show: weights of two pools, mixed.

The notebook saves each model's weights after training and after its ascent, by the model's number.
What it prints in training and in the ascent differs by the sharpness of the figure, as the two
distributions show; yet over the models the two losses are uncorrelated. Models that are trained and
climbed at the report's learning rate, 0.014, give the losses that the ascent prints; the training
that is printed has 0.102. So the weights after the ascent seem to be of an earlier pool. The
numbers are in `published/fcnn_printed.csv`.
"""

import numpy as np
import pandas as pd

from flatness.studies.epfl.defects.fcnn import TRAINING

#: The measuring protocol of the rows, beside those that are combinations of defects.
MIXED = "mixed_pools"
#: How the earlier pool was trained.
EARLIER = "+".join(name for name in TRAINING if name != "found_learning_rate")


def mixed_pool(table: pd.DataFrame) -> pd.DataFrame:
    """Models trained as released, their sharpness that of the figure's kind.

    A model meets the climbed weights of the next seed, as those of its own seed began at the same
    initial weights.

    Args:
        table: rows of `CrossedModel` of the FCNN.

    Returns:
        The rows measured `MIXED`; none where the table lacks either pool.
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
