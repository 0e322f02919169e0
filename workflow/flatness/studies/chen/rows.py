"""Columns of the training tables. What measures depends on must not enter training's imports."""

from flatness.records.tables import Provenance, column

SQUARED_ERROR = "mean over images and the 10 outputs (PyTorch's MSELoss)"


class Checkpoint(Provenance):
    """What every row about a checkpoint says first."""

    family: str = column("family of models", convention="as in the config")
    setting: str = column("grid setting, as in the config; empty for pools, which have one")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images")
    seed: int = column("seed of the model: of initial weights and data order")
    step: int = column("steps taken", unit="steps")
    train_loss: float = column("loss over the training set", convention=SQUARED_ERROR)
    train_accuracy: float = column("share of training images classified right")
    test_loss: float = column("loss over the test set", convention=SQUARED_ERROR)
    test_accuracy: float = column("share of the test samples classified right")
    diverged: bool = column("whether the loss or a weight stopped being finite")
    reason: str = column("why there is no value, or why it is not used; empty otherwise")


class TrainedCheckpoint(Checkpoint):
    """One model at one step of its training."""
