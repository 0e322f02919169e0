import pytest
import torch
from torch.nn import functional
from torch_geometric.nn import GAT

from flatness.datasets.normalised import abalone_split, standardise
from flatness.errors import UserError
from flatness.studies.epfl.networks import fcnn
from flatness.studies.epfl.pools import CHUNK, FcnnPool, GatPool
from studies.epfl.small_pools import graph, table


def module(pool, parameters, index, **options):
    model = fcnn(10, **options).double()
    model.load_state_dict({name: values[index] for name, values in parameters.items()})
    return model


@pytest.mark.parametrize("defects", [(), ("elu_output", "default_init")])
def test_fcnn_losses_are_the_mean_squared_errors_of_its_modules(defects):
    dataset = table()
    pool = FcnnPool(dataset, None, defects, dtype=torch.float64)
    parameters = pool.initial(range(CHUNK + 2))
    batch = torch.randint(pool.samples, (CHUNK + 2, 9))
    train, test = abalone_split(161)
    inputs, targets = standardise(dataset.tensors["inputs"], dataset.tensors["targets"], train)
    result = pool.evaluate(parameters)
    losses = pool.losses(parameters, batch)
    for index in range(CHUNK + 2):
        model = module(pool, parameters, index, elu_output="elu_output" in defects)

        def loss(rows, model=model):
            return functional.mse_loss(model(inputs[rows]), targets[rows]).item()

        assert losses[index].item() == pytest.approx(loss(train[batch[index]]), rel=1e-10)
        assert result.train_loss[index].item() == pytest.approx(loss(train), rel=1e-10)
        assert result.test_loss[index].item() == pytest.approx(loss(test), rel=1e-10)
    assert result.test_accuracy.isnan().all()


def test_initial_weights_depend_on_the_seed_alone():
    for pool in (FcnnPool(table(), None, ()), GatPool(graph(), None, ())):
        all_five, last = pool.initial(range(5)), pool.initial([4])
        for name, values in all_five.items():
            assert values[4].equal(last[name][0])
        weight = next(name for name in all_five if name.endswith("weight"))
        assert len({float(values.sum()) for values in all_five[weight]}) == 5


def test_fcnn_weights_are_xavier_as_written_and_pytorchs_default_as_released():
    written = FcnnPool(table(), None, ()).initial(range(20))
    released = FcnnPool(table(), None, ("default_init",)).initial(range(20))
    assert written["0.bias"].abs().max() == 0 < released["0.bias"].abs().max()
    assert written["2.weight"].abs().max() == pytest.approx((6 / 128) ** 0.5, rel=0.01)
    assert released["2.weight"].abs().max() == pytest.approx(1 / 8, rel=0.01)


def test_the_lost_row_is_the_first():
    dataset = table()
    rest = dataset.__class__(
        "rest", True, {name: values[1:] for name, values in dataset.tensors.items()}
    )
    lost = FcnnPool(dataset, None, ("lost_row",))
    assert lost.samples == 128
    assert lost.train[0].equal(FcnnPool(rest, None, ()).train[0])


def test_another_split_trains_on_other_rows_and_standardises_by_them():
    first, second = (FcnnPool(table(), None, (), split=split) for split in (0, 1))
    assert first.train[0].equal(FcnnPool(table(), None, ()).train[0])
    assert first.samples == second.samples
    assert not first.train[1].equal(second.train[1])
    assert second.train[0].mean(0).abs().max() < 1e-6
    with pytest.raises(UserError, match="split must be 0"):
        GatPool(graph(), None, (), split=1)


def test_fewer_training_rows_and_too_many():
    assert FcnnPool(table(), 50, ()).samples == 50
    with pytest.raises(UserError, match="train_size 129"):
        FcnnPool(table(), 129, ())
    with pytest.raises(UserError, match="train_size must be null"):
        GatPool(graph(), 20, ())


def test_a_node_batch_counts_repeats_unless_it_is_a_mask():
    pool = GatPool(graph(), None, (), dtype=torch.float64)
    parameters = pool.initial([0, 1])
    drawn = torch.tensor([[0, 0, 0, 5], [1, 2, 2, 3]])
    each = torch.stack(
        [pool.losses(parameters, pool.batch(torch.full((2, 1), node))) for node in range(6)], dim=1
    )
    counted = pool.losses(parameters, pool.batch(drawn))
    masked = pool.losses(parameters, pool.batch(drawn, collapse=True))
    assert torch.allclose(counted, each.gather(1, drawn).mean(1), rtol=1e-10)
    expected = torch.stack([each[0, [0, 5]].mean(), each[1, [1, 2, 3]].mean()])
    assert torch.allclose(masked, expected, rtol=1e-10)
    assert pool.whole(parameters).shape == (2,)


def test_gat_losses_and_accuracy_are_those_of_pytorch_geometric_over_the_masks():
    dataset = graph()
    pool = GatPool(dataset, None, (), dtype=torch.float64)
    parameters = pool.initial([0, 1])
    result = pool.evaluate(parameters)
    for index in range(2):
        model = GAT(30, 8, 2, 7, act="elu").double()
        model.load_state_dict({name: values[index] for name, values in parameters.items()})
        scores = model(dataset.tensors["inputs"].double(), dataset.tensors["edge_index"])
        for part, found in (("train", result.train_loss), ("test", result.test_loss)):
            mask = dataset.tensors[f"{part}_mask"]
            expected = functional.cross_entropy(scores[mask], dataset.tensors["targets"][mask])
            assert found[index].item() == pytest.approx(expected.item(), rel=1e-10)
        right = scores[mask].argmax(1) == dataset.tensors["targets"][mask]
        assert result.test_accuracy[index].item() == pytest.approx(right.double().mean().item())
