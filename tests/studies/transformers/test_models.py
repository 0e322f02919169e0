"""Building models and loading weights from a folder."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.func import functional_call, jvp, vmap

from flatness.errors import DataError, UserError
from flatness.studies.transformers.config import PROJECT, VitModel
from flatness.studies.transformers.models import build, family, load_pretrained, pretrained_tags
from flatness.studies.transformers.pretrained import pinned_tags
from studies.transformers.tiny_transformers import LEVIT, TINY_VIT, VIT

TAG = VitModel(name="test_vit.r160_in1k", constructor="test_vit.r160_in1k")


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (build(VIT, 4, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_arguments_that_timm_refuses_are_named():
    wrong = VIT.model_copy(update={"arguments": {"depths": 3}})
    with pytest.raises(UserError, match=r"vit_tiny: timm cannot build .* 'depths'"):
        build(wrong, 4, 0)
    with pytest.raises(UserError, match="nosuchvit"):
        build(VitModel(name="x", constructor="nosuchvit"), 4, 0)


def test_families_are_timms_modules():
    assert [family(model) for model in (VIT, TINY_VIT, LEVIT)] == ["vit", "tiny_vit", "levit"]
    assert family(TAG) == "vit"


def test_weights_are_read_from_a_folder(tmp_path):
    torch.manual_seed(0)
    published = timm.create_model(TAG.constructor).eval()
    save_file(published.state_dict(), tmp_path / f"{TAG.name}.safetensors")
    loaded = load_pretrained(TAG, tmp_path)
    x = torch.randn(2, 3, 160, 160)
    assert not loaded.training
    torch.testing.assert_close(loaded(x), published(x))


def test_weights_that_do_not_fit_name_the_file(tmp_path):
    path = tmp_path / f"{TAG.name}.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(DataError, match=str(path)):
        load_pretrained(TAG, tmp_path)
    save_file({"head.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(DataError, match=str(path)):
        load_pretrained(TAG, tmp_path)


def test_the_pinned_models_are_in_the_registry():
    pinned = pinned_tags(PROJECT / "config/vit_models.txt")
    assert set(pinned) <= set(pretrained_tags("*vit*", 384))


def _smallest_of_each_family():
    chosen = {}
    for tag in pinned_tags(PROJECT / "config/vit_models.txt"):
        model = VitModel(name=tag, constructor=tag)
        size = timm.models.get_pretrained_cfg(model.constructor).input_size[-1]
        known = chosen.get(family(model))
        if known is None or size < known[0]:
            chosen[family(model)] = (size, model)
    return {name: model for name, (_, model) in sorted(chosen.items())}


@pytest.mark.slow
@pytest.mark.parametrize("model", _smallest_of_each_family().values(), ids=lambda m: m.name)
def test_every_pinned_family_can_be_measured(model):
    module = timm.create_model(model.constructor).eval().requires_grad_(False).double()
    size = module.pretrained_cfg["input_size"]
    x = torch.randn(1, *size, dtype=torch.float64)
    outputs, slope = jvp(module, (x,), (x,))
    stacked = {name: torch.stack([p, p]) for name, p in module.named_parameters()}
    twice = vmap(lambda p: functional_call(module, p, (x,)))(stacked)
    assert slope.isfinite().all()
    torch.testing.assert_close(twice[1], outputs, rtol=1e-6, atol=1e-9)
