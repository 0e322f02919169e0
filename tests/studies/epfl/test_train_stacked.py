import pytest
import torch
from torch.nn import functional

from flatness.studies.epfl.defects import TRAINING_DEFECTS
from flatness.studies.epfl.networks import fcnn
from flatness.studies.epfl.pools import FcnnPool, GatPool
from flatness.studies.epfl.seeds import generator
from flatness.studies.epfl.train_stacked import step_losses, train_epoch, train_stack
from studies.epfl.small_pools import graph, table, training

SEEDS = [0, 3, 7]


def small(pool, defects=()):
    kind, dataset = {"fcnn": (FcnnPool, table()), "gat": (GatPool, graph())}[pool]
    return kind(dataset, None, defects, dtype=torch.float64)


@pytest.mark.parametrize("defects", [(), ("elu_output", "default_init"), ("full_batch_steps",)])
def test_stacked_training_equals_a_plain_loop_after_50_steps(defects):
    pool, settings = small("fcnn", defects), training("fcnn", defects=defects)
    parameters = pool.initial(SEEDS)
    models = []
    for index in range(len(SEEDS)):
        model = fcnn(10, elu_output=pool.elu_output).double()
        model.load_state_dict({name: values[index] for name, values in parameters.items()})
        models.append(model)
    steps = -(-pool.samples // 16)
    epochs = -(-50 // steps)
    for epoch in range(1, epochs + 1):
        found = train_epoch(pool, settings, parameters, SEEDS, epoch)
        for index, (seed, model) in enumerate(zip(SEEDS, models, strict=True)):
            optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate)
            losses = []
            order = torch.randperm(pool.samples, generator=generator("epoch", seed, epoch))
            for batch in order.split(16):
                rows = slice(None) if "full_batch_steps" in defects else batch
                loss = functional.mse_loss(model(pool.train[0][rows]), pool.train[1][rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            assert found[index].item() == pytest.approx(sum(losses) / steps, rel=1e-10)
    for index, model in enumerate(models):
        for name, weights in model.state_dict().items():
            assert (weights - parameters[name][index]).abs().max() < 1e-10


@pytest.mark.parametrize("pool", ["fcnn", "gat"])
def test_a_model_is_the_same_in_any_block(pool):
    settings = training(pool, max_epochs=20)
    problem = small(pool)
    together = train_stack(problem, settings, SEEDS)
    assert [outcome.seed for outcome in together] == SEEDS
    if pool == "gat":
        assert len({len(outcome.epoch_losses) for outcome in together}) > 1
    for outcome in together:
        (alone,) = train_stack(problem, settings, [outcome.seed])
        assert alone.epoch_losses == pytest.approx(outcome.epoch_losses, rel=1e-10)
        assert alone.test_loss == pytest.approx(outcome.test_loss, rel=1e-10)
        for name, values in alone.state.items():
            assert (values - outcome.state[name]).abs().max() < 1e-10


def test_training_lowers_the_loss_on_data_with_structure():
    for pool in ("fcnn", "gat"):
        outcomes = train_stack(small(pool), training(pool, max_epochs=20, tolerance=1e-9), SEEDS)
        for outcome in outcomes:
            assert outcome.epoch_losses[-1] < 0.9 * outcome.epoch_losses[0]


def test_a_diverged_model_leaves_the_others_alone(monkeypatch):
    pool, settings = small("fcnn"), training("fcnn", max_epochs=4, tolerance=1e-9)
    reference = train_stack(pool, settings, [0, 7])
    initial = pool.initial

    def one_explodes(seeds):
        parameters = initial(seeds)
        for index, seed in enumerate(seeds):
            if seed == 3:
                parameters["4.weight"][index] *= 1e200
        return parameters

    monkeypatch.setattr(pool, "initial", one_explodes)
    first, exploded, last = train_stack(pool, settings, SEEDS)
    assert "in epoch 1" in exploded.reason and len(exploded.epoch_losses) == 1
    for found, expected in zip((first, last), reference, strict=True):
        assert found.reason == ""
        assert found.test_loss == pytest.approx(expected.test_loss, rel=1e-10)


def test_an_epoch_draws_every_sample_once():
    pool, settings = small("gat"), training("gat")
    generators = [generator("epoch", 0, 1)]
    steps = list(step_losses(pool, settings, generators))
    assert len(steps) == 3
    shares = [step.keywords["batch"] for step in steps]
    sizes = torch.tensor([16.0, 16.0, 8.0])
    total = sum(share * size for share, size in zip(shares, sizes, strict=True))
    assert torch.allclose(total, torch.ones(1, 40, dtype=torch.float64))


def test_the_released_gat_trains_as_the_notebook_does():
    """Each batch a mask, the last one filled up with repeats of its own last node."""
    pool = small("gat", tuple(TRAINING_DEFECTS["gat"]))
    settings = training("gat", defects=tuple(TRAINING_DEFECTS["gat"]))
    found = train_epoch(pool, settings, pool.initial(SEEDS), SEEDS, 1)
    for index, seed in enumerate(SEEDS):
        own, parameters = generator("epoch", seed, 1), pool.initial([seed])
        order = torch.randperm(40, generator=own)
        losses = []
        for batch in order.split(16):
            padded = torch.cat([batch, batch[-1:].expand(16 - len(batch))])
            mask = torch.zeros(1, 40, dtype=torch.float64)
            mask[0, padded] = 1
            leaves = {name: values.requires_grad_() for name, values in parameters.items()}
            loss = pool.losses(leaves, mask / mask.sum(), [own])
            gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
            parameters = {
                name: (values - settings.learning_rate * gradient).detach()
                for (name, values), gradient in zip(leaves.items(), gradients, strict=True)
            }
            losses.append(loss.item())
        assert found[index].item() == pytest.approx(sum(losses) / len(losses), rel=1e-10)
