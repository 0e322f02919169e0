import math

import pytest

from flatness.studies.epfl.protocol import StoppingRule, TrainingOutcome
from studies.epfl.small_pools import training

WRITTEN = StoppingRule(min_epochs=1, max_epochs=10, tolerance=0.05, signed=False)
GRAPH = StoppingRule(min_epochs=10, max_epochs=20, tolerance=0.05, signed=False)
SIGNED = StoppingRule(min_epochs=1, max_epochs=12, tolerance=0.05, signed=True)


LATE = StoppingRule.of(training("gat", min_epochs=10, max_epochs=20, defects=("late_stopping",)))


@pytest.mark.parametrize(
    ("rule", "losses", "stops"),
    [
        (WRITTEN, [1.0], False),
        (WRITTEN, [1.0, 0.951], True),
        (WRITTEN, [1.0, 0.949], False),
        (WRITTEN, [1.0, 1.049], True),
        (WRITTEN, [1.0, 1.051], False),
        (WRITTEN, [2.0**-k for k in range(9)], False),
        (WRITTEN, [2.0**-k for k in range(10)], True),
        (SIGNED, [1.0, 1.2], True),
        (SIGNED, [1.0, 0.949], False),
        (GRAPH, [1.0] * 9, False),
        (GRAPH, [1.0] * 10, True),
        (LATE, [1.0] * 10, False),
        (LATE, [1.0] * 11, True),
        (WRITTEN, [math.nan], True),
        (GRAPH, [1.0, math.inf], True),
    ],
)
def test_stopping(rule, losses, stops):
    assert rule.met(losses) is stops


def test_an_outcome_says_why_it_diverged():
    fine = TrainingOutcome(0, {}, [1.0, 0.5])
    assert "train_loss is nan" in fine.reason
    assert fine.evaluated(0.4, 0.5, math.nan).reason == ""
    assert "test_loss is inf" in fine.evaluated(0.4, math.inf, math.nan).reason
    assert TrainingOutcome(0, {}, [1.0, math.nan]).reason == "the loss was nan in epoch 2"
