"""Columns of the training tables. What measures depends on must not enter training's imports."""

from flatness.records.tables import Provenance, column

SQUARED_ERROR = "mean over images and the 10 outputs (PyTorch's MSELoss)"


class Checkpoint(Provenance):
    """What every row about a checkpoint says first."""

    family: str = column("family of models, as in the config")
    setting: str = column("grid setting, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    train_size: int = column("training images")
    seed: int = column("seed of initial weights and data order")
    step: int = column("steps taken", unit="steps")
    train_loss: float = column("loss over the training images", convention=SQUARED_ERROR)
    train_accuracy: float = column("share of training images classified right")
    test_loss: float = column("loss over the test images", convention=SQUARED_ERROR)
    test_accuracy: float = column("share of test images classified right")
    diverged: bool = column("whether the loss stopped being finite")
    reason: str = column("why there are no values; empty otherwise")


class TrainedCheckpoint(Checkpoint):
    """One model at one step of its training."""
