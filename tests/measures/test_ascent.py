import pytest
import torch
from torch.nn import functional

from flatness.errors import NumericalError
from flatness.measures.ascent import (
    ascent_path,
    box,
    draw_batches,
    plain_rise,
    require_inside,
    strong_rise,
)
from flatness.measures.worst_case import module_losses
from measures.small_networks import mlp, table


def stack_of_one(model):
    return {name: weights.detach()[None] for name, weights in model.named_parameters()}


def first_order_rise(model, data, rho):
    """ρ Σ |w| |∂L/∂w|, the maximum for a loss that is linear within the box."""
    parameters = list(model.parameters())
    loss = functional.cross_entropy(model(data[0]), data[1])
    gradients = torch.autograd.grad(loss, parameters)
    pairs = zip(parameters, gradients, strict=True)
    return sum((rho * w * g).abs().sum().item() for w, g in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_strong_ascent_reaches_the_first_order_maximum_as_rho_vanishes(seed):
    model, data, rho = mlp(seed), table(), 1e-6
    batch = torch.arange(40)[None]
    losses = module_losses(model, functional.cross_entropy, data)
    generators = [torch.Generator().manual_seed(0)]
    found = strong_rise(
        lambda parameters: losses(parameters, batch),
        stack_of_one(model),
        rho=rho,
        generators=generators,
    )
    expected = first_order_rise(model, data, rho)
    assert 0.99 * expected <= float(found) <= 1.01 * expected


@pytest.mark.parametrize("step_size", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("rho", [1e-3, 0.05, 0.5])
def test_strong_ascent_is_at_least_as_high_as_plain_on_95_percent_of_batches(rho, step_size):
    higher = []
    for seed in range(20):
        model, data = mlp(seed), table(seed=seed)
        losses = module_losses(model, functional.cross_entropy, data)
        for draw in draw_batches(40, 2, 16, [torch.Generator().manual_seed(seed)])[0]:

            def on_batch(parameters, losses=losses, batch=draw[None]):
                return losses(parameters, batch)

            centre = stack_of_one(model)
            generators = [torch.Generator().manual_seed(seed)]
            strong = strong_rise(on_batch, centre, rho=rho, generators=generators)
            plain = plain_rise(on_batch, centre, rho=rho, step_size=step_size, steps=5)
            higher.append(float(strong) >= float(plain))
    assert sum(higher) >= 0.95 * len(higher)


def test_leaving_the_box_is_noticed():
    half = {"weight": torch.tensor([[0.1, 0.2]])}
    require_inside({"weight": torch.tensor([[-0.1, 0.2]])}, half)
    with pytest.raises(NumericalError, match="weight"):
        require_inside({"weight": torch.tensor([[0.1, 0.2000001]])}, half)


def bowl(parameters):
    """Losses (M,) of a stack of quadratic functions, each with its own curvature."""
    curvature = torch.tensor([1.0, 2.0], dtype=torch.float64)
    return curvature * parameters["w"].square().sum(1)


def test_every_model_of_a_stack_climbs_by_itself():
    centre = {"w": torch.tensor([[1.0, -2.0], [3.0, 0.0]], dtype=torch.float64)}
    corner = {"w": 1.1 * centre["w"]}
    expected = bowl(corner) - bowl(centre)
    plain = plain_rise(bowl, centre, rho=0.1, step_size=10.0, steps=2)
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    strong = strong_rise(bowl, centre, rho=0.1, generators=generators)
    assert torch.allclose(plain, expected, rtol=1e-12)
    assert torch.allclose(strong, expected, rtol=1e-12)


def test_the_path_holds_the_losses_before_and_after_every_move_or_another_score():
    centre = {"w": torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)}

    def move(step, gradient, half):
        return 0.01 * gradient

    path = ascent_path(bowl, centre, box(centre, 1.0), move, 2)
    growth = torch.tensor([1.02, 1.04], dtype=torch.float64) ** 2
    assert torch.allclose(path, torch.stack([bowl(centre) * growth**k for k in range(3)]))
    scores = ascent_path(
        bowl, centre, box(centre, 1.0), move, 2, score=lambda parameters: -bowl(parameters)
    )
    assert torch.allclose(scores, -path)


def test_a_model_draws_the_same_batches_in_any_stack():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    drawn = draw_batches(5, 3, 100, generators(1, 2))
    assert drawn.shape == (2, 3, 100) and set(drawn.unique().tolist()) == set(range(5))
    assert drawn[1].equal(draw_batches(5, 3, 100, generators(2))[0])
