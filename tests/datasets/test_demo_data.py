import pytest
import torch
from torch.nn.functional import cross_entropy
from torch_geometric.nn import GAT

from flatness.datasets.fetch import fetch
from flatness.datasets.graph import sbm
from flatness.datasets.images import digits, digits32
from flatness.datasets.normalised import load
from flatness.datasets.table import diabetes


@pytest.mark.parametrize("name", ["diabetes", "digits", "digits32", "sbm"])
def test_demo_data_are_marked_loadable_and_the_same_bytes_each_time(name, tmp_path):
    for copy in ("first", "second"):
        fetch(name, tmp_path / copy)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    dataset = load(tmp_path / "first")
    assert dataset.name == name and dataset.demo


def test_diabetes_fits_the_abalone_network():
    tensors = diabetes.make()
    assert tensors["inputs"].shape == (442, 10) and tensors["targets"].shape == (442, 1)
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert (tensors["inputs"].std(dim=0) > 0).all()


@pytest.mark.parametrize(("module", "shape"), [(digits, (1, 28, 28)), (digits32, (3, 32, 32))])
def test_digits_have_the_published_shape_and_a_stratified_split(module, shape):
    tensors = module.make()
    train, test = tensors["train_inputs"], tensors["test_inputs"]
    assert train.shape == (1437, *shape) and test.shape == (360, *shape)
    assert train.dtype == test.dtype == torch.uint8
    assert train.min() == 0 and train.max() == 255
    assert torch.equal(train, train[:, :1].expand_as(train))
    share = tensors["train_targets"].bincount() / tensors["test_targets"].bincount()
    assert len(share) == 10 and ((share - 4).abs() < 0.2).all()


def test_digits_are_the_same_images_at_both_sizes():
    small, large = digits.make(), digits32.make()
    assert torch.equal(small["train_targets"], large["train_targets"])
    means = [t["train_inputs"].double().mean(dim=(1, 2, 3)) for t in (small, large)]
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=2)


def test_sbm_is_an_undirected_homophilous_graph_with_planetoids_split():
    tensors = sbm.make()
    edges, targets = tensors["edge_index"], tensors["targets"]
    assert tensors["inputs"].shape == (700, 200)
    assert tensors["inputs"].unique().tolist() == [0, 1]
    assert targets.bincount().tolist() == [100] * 7
    pairs = set(map(tuple, edges.T.tolist()))
    assert len(pairs) == edges.shape[1], "no edge twice"
    assert pairs == {(b, a) for a, b in pairs} and all(a != b for a, b in pairs)
    # Cora: 3.9 edges a node, 81 % of them within a class.
    assert 3 < edges.shape[1] / 700 < 5
    assert 0.7 < (targets[edges[0]] == targets[edges[1]]).double().mean() < 0.9
    masks = torch.stack([tensors[f"{part}_mask"] for part in ("train", "val", "test")])
    assert masks.sum(0).max() == 1
    for mask, size in zip(masks, (20, 20, 40), strict=True):
        assert targets[mask].bincount().tolist() == [size] * 7


@pytest.mark.parametrize("epochs", [10, 20])
def test_sbm_is_learnable_but_not_easy_for_a_gat(epochs):
    tensors = sbm.make()
    inputs, targets, edges = tensors["inputs"].float(), tensors["targets"], tensors["edge_index"]
    train = tensors["train_mask"].nonzero().squeeze(1)
    for seed in range(3):
        torch.manual_seed(seed)
        net = GAT(200, 8, num_layers=2, out_channels=7, dropout=0.6, act="elu")
        optimizer = torch.optim.SGD(net.parameters(), lr=0.236)
        for _ in range(epochs):
            for batch in train[torch.randperm(140)].split(64):
                optimizer.zero_grad()
                cross_entropy(net(inputs, edges)[batch], targets[batch]).backward()
                optimizer.step()
        net.eval()
        right = net(inputs, edges).argmax(1) == targets
        assert 0.6 < right[tensors["test_mask"]].double().mean() < 0.95
