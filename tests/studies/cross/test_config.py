import pytest

from checkout import shipped
from flatness.errors import UserError
from flatness.pipeline.config import validate
from flatness.studies.cross.config import family_measurement, pool_measurement


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("families", ["mlp_relu", "resnet"], r"cross\.families: no resnet; chen\.families has"),
        ("rho", 0, r"cross\.rho: found 0"),
        ("restarts", 1, r"cross\.restarts: found 1"),
        ("samples", 1, r"cross\.samples: found 1"),
    ],
)
def test_a_wrong_value_is_named(key, value, message):
    wrong = shipped()
    wrong["cross"][key] = value
    with pytest.raises(UserError, match=message):
        validate(wrong)


def slices(config):
    family = config.chen.families["mlp_relu"]
    setting, block = family.settings[0].name, family.blocks[0]
    return (
        family_measurement(config.cross, config.chen, "mlp_relu", setting, block, "cpu"),
        pool_measurement(config.cross, config.epfl, "gat", "written", "cpu"),
    )


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("rho", 0.02, [True, False]),
        ("samples", 9, [False, True]),
        ("families", ["mlp_relu"], [False, False]),
    ],
)
def test_a_setting_changes_the_slice_that_it_determines_only(key, value, changed):
    other = shipped()
    other["cross"][key] = value
    pairs = zip(slices(validate(shipped())), slices(validate(other)), strict=True)
    assert [before != after for before, after in pairs] == changed


def test_more_seeds_change_no_slice():
    more = shipped()
    more["chen"]["families"]["mlp_relu"]["seeds"] += 4
    more["epfl"]["pools"]["gat"]["models"] += 25
    assert slices(validate(shipped())) == slices(validate(more))
