"""Checkpoints at steps found during training: the first interpolation, and given losses.

They are needed to compare models at equal losses, since these steps are not known in advance.
"""

from collections.abc import Sequence
from typing import Any

#: Interpolation as the study defines it, on the training images.
INTERPOLATION_LOSS = 1e-3
INTERPOLATION_ACCURACY = 0.995
#: Epochs between two evaluations. An evaluation is a forward pass over the training images, at most
#: a third of an epoch's training time: one in seven epochs takes less than 5 % of the time.
LOOK_EPOCHS = 7


def interpolates(loss: float, accuracy: float) -> bool:
    """Whether a model fits the training images, by its loss (MSELoss) and accuracy on them."""
    return loss <= INTERPOLATION_LOSS and accuracy >= INTERPOLATION_ACCURACY


class Crossings:
    """Losses that a run must still reach, and the steps at which it reached the others.

    Attributes:
        kept: steps of the checkpoints that were found, ascending.
    """

    def __init__(self, losses: Sequence[float], samples: int, batch_size: int) -> None:
        """Starts a run.

        Args:
            losses: training losses; if empty, there are no evaluations.
            samples: training images.
            batch_size: images per step.
        """
        self.kept: list[int] = []
        self._losses = sorted(losses, reverse=True)
        self._interpolation = bool(losses)
        self._every = LOOK_EPOCHS * (samples // batch_size)

    def looks(self, last: int) -> range:
        """The steps before the last at which a run that must still reach everything evaluates."""
        return range(self._every, last if self._losses else 0, self._every)

    @property
    def waiting(self) -> bool:
        """Whether anything is still to be reached."""
        return bool(self._losses) or self._interpolation

    def reached(self, step: int, loss: float, accuracy: float) -> bool:
        """Whether an evaluation reaches something for the first time; the step is then kept.

        Args:
            step: steps taken.
            loss: over all training images.
            accuracy: on them.

        Returns:
            Whether this is the first evaluation at or below one of the losses, or at interpolation.
        """
        passed = [level for level in self._losses if loss <= level]
        first = self._interpolation and interpolates(loss, accuracy)
        if not passed and not first:
            return False
        self._losses = self._losses[len(passed) :]
        self._interpolation = self._interpolation and not first
        self.kept.append(step)
        return True

    def state(self) -> dict[str, Any]:
        """The state for `restore`."""
        return {"kept": self.kept, "losses": self._losses, "interpolation": self._interpolation}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the state from `state`."""
        self.kept = list(state["kept"])
        self._losses, self._interpolation = list(state["losses"]), state["interpolation"]
