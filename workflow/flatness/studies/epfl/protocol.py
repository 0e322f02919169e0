"""The training protocol of every pool: when a model stops, and its state then."""

import math
from dataclasses import dataclass, replace

from flatness.measures.ascent import Parameters
from flatness.studies.epfl.defects.fcnn import MAX_EPOCHS
from flatness.studies.epfl.slices import PoolTraining


@dataclass(frozen=True)
class StoppingRule:
    """Stop when the epoch's mean minibatch loss changes by less than a share of itself.

    Attributes:
        min_epochs: epochs trained in any case.
        max_epochs: epochs trained at most.
        tolerance: share of the previous epoch's loss.
        signed: whether a rise counts as a change below the tolerance, so that it also stops.
    """

    min_epochs: int
    max_epochs: int
    tolerance: float
    signed: bool

    @classmethod
    def of(cls, settings: PoolTraining) -> "StoppingRule":
        """The rule of a pool's settings."""
        signed = "signed_stopping" in settings.defects
        max_epochs = MAX_EPOCHS if signed else settings.max_epochs
        # The notebook counts epochs from 0 and applies the rule from number `min_epochs` on.
        late = "late_stopping" in settings.defects
        return cls(settings.min_epochs + late, max_epochs, settings.tolerance, signed)

    def met(self, losses: list[float]) -> bool:
        """Whether a model with these epoch losses, oldest first, stops now."""
        epoch = len(losses)
        if epoch >= self.max_epochs or not math.isfinite(losses[-1]):
            return True
        if epoch < max(2, self.min_epochs):
            return False
        drop = (losses[-2] - losses[-1]) / losses[-2]
        return (drop if self.signed else abs(drop)) < self.tolerance


@dataclass(frozen=True)
class TrainingOutcome:
    """One model at the end of its training.

    Attributes:
        seed: of its initial weights and data order.
        state: tensors by name: parameters, and buffers where there are any.
        epoch_losses: mean minibatch loss of each epoch, oldest first.
        train_loss: over the training set in evaluation mode; NaN until evaluated.
        test_loss: likewise over the test set.
        test_accuracy: share of test samples classified right; NaN for regression.
    """

    seed: int
    state: Parameters
    epoch_losses: list[float]
    train_loss: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan

    @property
    def reason(self) -> str:
        """Why the model counts as diverged; empty if it does not."""
        if not math.isfinite(self.epoch_losses[-1]):
            return f"the loss was {self.epoch_losses[-1]} in epoch {len(self.epoch_losses)}"
        for name in ("train_loss", "test_loss"):
            if not math.isfinite(getattr(self, name)):
                return f"{name} is {getattr(self, name)} after training"
        return ""

    def evaluated(
        self, train_loss: float, test_loss: float, test_accuracy: float
    ) -> "TrainingOutcome":
        """The same model with its losses over whole data sets."""
        return replace(
            self, train_loss=train_loss, test_loss=test_loss, test_accuracy=test_accuracy
        )
