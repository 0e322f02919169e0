"""The released ascents against the notebooks' way of writing them, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.measures.ascent import draw_batches
from flatness.studies.epfl.defects import MEASURING_DEFECTS
from flatness.studies.epfl.defects import fcnn as fcnn_defects
from flatness.studies.epfl.defects import gat as gat_defects
from flatness.studies.epfl.defects import lenet5 as lenet5_defects
from flatness.studies.epfl.lenet5 import initial_lenet5, lenet5_images
from flatness.studies.epfl.measure import RELEASED, measure_lenet5, measure_stack
from flatness.studies.epfl.networks import fcnn
from flatness.studies.epfl.pools import FcnnPool, GatPool
from flatness.studies.epfl.seeds import generator, seed_of
from flatness.studies.epfl.slices import Ascent
from studies.epfl.small_pools import graph, images, measurement, table

SEEDS = [0, 3]


def small(pool):
    kind, dataset = {"fcnn": (FcnnPool, table()), "gat": (GatPool, graph())}[pool]
    return kind(dataset, None, (), dtype=torch.float64)


def rises(pool, problem, defects, **changes):
    settings = measurement(pool, defects=defects, **changes)
    return measure_stack(settings, problem, problem.initial(SEEDS), SEEDS)


def generators():
    return [generator("measure", 0, seed) for seed in SEEDS]


@pytest.mark.parametrize("pool", ["fcnn", "gat"])
def test_without_a_defect_the_released_ascent_is_the_written_one(pool):
    problem = small(pool)
    written = rises(pool, problem, ())
    released = RELEASED[pool](problem, measurement(pool), problem.initial(SEEDS), generators())
    assert torch.allclose(written, released, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pool", ["fcnn", "gat"])
def test_every_defect_can_be_switched_on_alone_and_all_together(pool):
    problem = small(pool)
    written = rises(pool, problem, ())
    for defects in [(name,) for name in MEASURING_DEFECTS[pool]] + [tuple(MEASURING_DEFECTS[pool])]:
        found = rises(pool, problem, defects, rho=0.3, step_size=0.5)
        assert found.isfinite().all() and found.shape[0] == len(SEEDS)
        if defects not in [("five_restarts",), ("end_of_pass",)]:
            assert found.shape != written.shape or not torch.allclose(found, written)


def test_the_released_fcnn_ascent_is_the_notebooks():
    """Six passes over the full set, a box without the absolute value, the end of the best pass."""
    pool, step_size, rho = small("fcnn"), 0.1, 0.03
    found = rises("fcnn", pool, tuple(MEASURING_DEFECTS["fcnn"]), step_size=step_size, rho=rho)
    parameters = pool.initial(SEEDS)
    for index in range(len(SEEDS)):
        model = fcnn(10).double()
        model.load_state_dict({name: values[index] for name, values in parameters.items()})
        low = [w.detach() - rho * w.detach() for w in model.parameters()]
        high = [w.detach() + rho * w.detach() for w in model.parameters()]
        inputs, targets = pool.train
        clean = functional.mse_loss(model(inputs), targets).item()
        largest, kept = -1.0, None
        for _ in range(fcnn_defects.PASSES):
            total = 0.0
            for _ in range(-(-pool.samples // 16)):
                loss = functional.mse_loss(model(inputs), targets)
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                for w, g, lo, hi in zip(model.parameters(), gradients, low, high, strict=True):
                    w.data = torch.clamp(w.data + step_size * g, lo, hi)
                total += functional.mse_loss(model(inputs), targets).item()
            if total > largest:
                largest, kept = total, functional.mse_loss(model(inputs), targets).item()
        assert found[index].tolist() == pytest.approx([kept - clean], rel=1e-8)


def test_the_end_of_the_pass_with_the_largest_sum_is_kept():
    # After the updates the passes sum to 4 and 3, and to 3 and 12; the start is of no pass.
    path = torch.tensor([[9.0, 9], [3, 1], [1, 2], [2, 3], [1, 9]])
    assert fcnn_defects.end_of_pass(path, 2).tolist() == [1.0, 9.0]
    assert fcnn_defects.end_of_pass(path, 1).tolist() == [3.0, 9.0]


def test_gat_defects_do_what_they_say():
    pool = small("gat")
    centre = pool.initial(SEEDS)
    tiny = {"rho": 1e-9}

    five = rises("gat", pool, ("five_restarts",), ascent=Ascent(steps=3, restarts=9, batch_size=16))
    assert five.shape == (2, gat_defects.RESTARTS)

    # With hardly any room to climb what is left is the noise of dropout in the two losses.
    assert rises("gat", pool, (), **tiny).abs().max() < 1e-6
    assert rises("gat", pool, ("train_dropout",), **tiny).abs().max() > 1e-2

    # The loss at the centre of the first batch is subtracted everywhere.
    draws = draw_batches(pool.samples, 4, 16, generators())
    clean = torch.stack([pool.losses(centre, pool.batch(part)) for part in draws.unbind(1)], dim=1)
    single = rises("gat", pool, ("single_draw",))
    assert torch.allclose(single - rises("gat", pool, ()), clean - clean[:, :1], atol=1e-12)


def test_the_mismatched_loss_is_a_sum_over_the_batches_of_an_epoch():
    pool, rho = small("gat"), 0.01
    settings = measurement(
        "gat",
        defects=("mismatched_loss",),
        rho=rho,
        step_size=1e18,
        ascent=Ascent(steps=1, restarts=2, batch_size=16),
    )
    centre = pool.initial(SEEDS)
    found = gat_defects.rises(pool, settings, centre, generators())
    own = generators()
    draws = draw_batches(pool.samples, 2, 16, own)
    leaves = {name: values.clone().requires_grad_() for name, values in centre.items()}
    loss = pool.losses(leaves, pool.batch(draws[:, 0])).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    there = {
        name: values + rho * values.abs() * gradient.sign()
        for (name, values), gradient in zip(centre.items(), gradients, strict=True)
    }
    # The nodes are shuffled anew for each loss: at the centre, then after the step.
    orders = [[torch.randperm(40, generator=one) for _ in range(2)] for one in own]
    for index, shuffled in enumerate(orders):
        expected = 0.0
        for sign, place, order in zip((-1, 1), (centre, there), shuffled, strict=True):
            # The last batch has what is left of 40: the notebook's padding collapses in its mask.
            for nodes in order.split(16):
                model = {name: values[index : index + 1] for name, values in place.items()}
                expected += sign * pool.losses(model, pool.batch(nodes[None])).item()
        assert found[index, 0].item() == pytest.approx(expected, rel=1e-9)


@pytest.fixture(scope="module")
def lenet5():
    inputs, targets = lenet5_images(images(), None, "cpu", torch.float64).train
    model = initial_lenet5(0).double()
    for seed in range(20):
        torch.manual_seed(seed)
        model.train()(inputs[torch.randperm(96)[:16]])
    return model.eval(), (inputs, targets)


def notebook_ascent(model, data, passes, scored, step_size, rho, modes):
    """As the notebook writes it: the centre is `param.detach()`, the projection rebinds `.data`."""
    other = initial_lenet5(0).double()
    other.load_state_dict(model.state_dict())
    other.eval()
    clean = functional.cross_entropy(other(scored[0]), scored[1]).item()
    centre = [weights.detach() for weights in other.parameters()]
    best = -1.0
    for batches in passes:
        modes(other)
        for batch in batches:
            loss = functional.cross_entropy(other(data[0][batch]), data[1][batch])
            gradients = torch.autograd.grad(loss, list(other.parameters()))
            with torch.no_grad():
                for weights, gradient, middle in zip(
                    other.parameters(), gradients, centre, strict=True
                ):
                    weights.add_(gradient, alpha=step_size)
                    half = rho * middle.abs()
                    weights.data = torch.clamp(weights.data, middle - half, middle + half)
        other.eval()
        best = max(best, functional.cross_entropy(other(scored[0]), scored[1]).item())
    return best - clean


def test_the_released_lenet5_ascent_is_the_notebooks(lenet5):
    model, data = lenet5
    settings = measurement("lenet5", defects=tuple(MEASURING_DEFECTS["lenet5"]), rho=1e-3)
    found = measure_lenet5(settings, model, data, 5)
    one = generator("measure", 0, 5)
    passes = [torch.randperm(96, generator=one).split(16) for _ in range(3)]
    torch.manual_seed(seed_of("measure dropout", 0, 5))
    expected = notebook_ascent(model, data, passes, data, 0.05, 1e-3, nn.Module.train)
    assert found.tolist() == pytest.approx([expected], rel=1e-8)


def test_a_moved_centre_lets_the_first_step_leave_the_box(lenet5):
    model, data = lenet5
    settings = measurement("lenet5", defects=("moved_centre",), rho=1e-3)
    found = measure_lenet5(settings, model, data, 5)
    (draws,) = draw_batches(96, 4, 16, [generator("measure", 0, 5)])
    expected = [
        notebook_ascent(
            model, data, [[batch]] * 3, (data[0][batch], data[1][batch]), 0.05, 1e-3, nn.Module.eval
        )
        for batch in draws
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-8)
    assert found.mean() > 5 * measure_lenet5(measurement("lenet5", rho=1e-3), model, data, 5).mean()


def test_without_a_defect_the_released_lenet5_ascent_is_the_written_one(lenet5):
    model, data = lenet5
    settings = measurement("lenet5", rho=1e-3)
    written = measure_lenet5(settings, model, data, 5)
    released = lenet5_defects.rises(model, settings, data, generator("measure", 0, 5))
    assert torch.allclose(written, released, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("defect", ["train_batch_norm", "train_dropout"])
def test_train_mode_matters_and_leaves_the_model_as_it_was(lenet5, defect):
    model, data = lenet5
    before = {name: values.clone() for name, values in model.state_dict().items()}
    settings = measurement("lenet5", defects=(defect,), rho=1e-3)
    found = measure_lenet5(settings, model, data, 5)
    written = measure_lenet5(measurement("lenet5", rho=1e-3), model, data, 5)
    assert (found != written).all()
    assert all(values.equal(before[name]) for name, values in model.state_dict().items())
