import pytest
from pydantic import ValidationError

from flatness.records.frozen import seeds_of
from flatness.studies.chen.config import (
    Checkpoints,
    ChenSettings,
    Family,
    Setting,
    measurement,
    training,
)

FAMILY = {
    "network": "mlp",
    "dataset": "digits",
    "settings": [{"learning_rate": 0.1, "batch_size": 20}],
    "seeds": 7,
    "block": 3,
    "trend_seeds": 2,
    "iterations": 100,
    "checkpoints": {"schedule": "even", "count": 4},
    "samples": 20,
}


def study(**changes):
    return ChenSettings(families={"mlp_relu": FAMILY | changes}, keep_trajectories=True)


def test_a_setting_is_named_by_all_that_differs_from_plain_descent():
    assert Setting(learning_rate=0.1, batch_size=20).name == "lr0.1_batch20"
    momentum = Setting(learning_rate=0.01, batch_size=20, momentum=0.9, weight_decay=5e-4)
    assert momentum.name == "lr0.01_batch20_momentum0.9_decay0.0005"
    adam = Setting(learning_rate=0.001, batch_size=8, optimizer="adam")
    assert adam.name == "lr0.001_batch8_adam"


def test_even_checkpoints_divide_training_evenly():
    assert Checkpoints(schedule="even", count=4).steps(100) == (0, 25, 50, 75, 100)


def test_logarithmic_checkpoints_grow_by_a_factor_and_never_repeat():
    assert Checkpoints(schedule="logarithmic", count=3).steps(1000) == (0, 10, 100, 1000)
    crowded = Checkpoints(schedule="logarithmic", count=50).steps(10)
    assert crowded == tuple(range(11))


def test_blocks_hold_every_seed_once_and_never_mix_trend_seeds_with_others():
    family = Family(**FAMILY)
    seeds = [seed for block in family.blocks for seed in seeds_of(block)]
    assert seeds == list(range(7))
    assert family.trend_blocks == ["0-0", "1-1"]


def test_only_trend_blocks_keep_weights_along_training():
    assert training(study(), "mlp_relu", "lr0.1_batch20", "0-0", "cpu").steps == (
        0,
        25,
        50,
        75,
        100,
    )
    assert training(study(), "mlp_relu", "lr0.1_batch20", "2-4", "cpu").steps == (100,)


@pytest.mark.parametrize("change", [{"samples": 50}, {"measure_every": 2}, {"test_samples": None}])
def test_what_is_measured_does_not_change_what_is_trained(change):
    before, after = study(), study(**change)
    slices = [training(s, "mlp_relu", "lr0.1_batch20", "0-0", "cpu") for s in (before, after)]
    assert slices[0] == slices[1]
    measured = [measurement(s, "mlp_relu", "lr0.1_batch20", "0-0", "cpu") for s in (before, after)]
    assert measured[0] != measured[1]


@pytest.mark.parametrize("change", [{"seeds": 50}, {"block": 5}, {"checkpoints": None}])
def test_a_grid_block_is_not_retrained_when_seeds_or_checkpoints_are_added(change):
    if change == {"checkpoints": None}:
        change = {"checkpoints": {"schedule": "even", "count": 10}}
    slices = [
        training(s, "mlp_relu", "lr0.1_batch20", "2-4", "cpu") for s in (study(), study(**change))
    ]
    assert slices[0] == slices[1]


def test_measuring_every_second_checkpoint_keeps_the_last():
    chosen = measurement(study(measure_every=3), "mlp_relu", "lr0.1_batch20", "0-0", "cpu")
    assert chosen.steps == (25, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trend_seeds": 8}, "trend_seeds 8 exceeds seeds 7"),
        ({"train_size": 10}, "batch_size 20 exceeds train_size 10"),
        ({"settings": [{"learning_rate": 0.1, "batch_size": 20}] * 2}, "occurs twice"),
        ({"network": "vgg11", "activation": "tanh"}, "relu only"),
        ({"dataset": "abalone"}, "digits"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        study(**change)


def test_losses_need_every_kept_checkpoint_measured():
    losses = Checkpoints(schedule="even", count=4, losses=(1e-3,))
    with pytest.raises(ValueError, match="measure_every 1"):
        study(checkpoints=losses, measure_every=2)
    chosen = study(checkpoints=losses)
    for block in chosen.families["mlp_relu"].blocks:
        slices = [make(chosen, "mlp_relu", "lr0.1_batch20", block, "cpu")
                  for make in (training, measurement)]  # fmt: skip
        assert [part.losses for part in slices] == [(1e-3,)] * 2
