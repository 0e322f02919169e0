"""The Hessian and Gauss-Newton matrix of any loss, against explicit matrices and closed forms."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from flatness import hessian
from flatness.errors import NumericalError, UserError
from measures.small_networks import mlp, table
from measures.test_hessian import CrookedLayer


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def at(model, vector):
    """The parameters, by name, that a flat vector holds."""
    shapes = {name: p.shape for name, p in model.named_parameters()}
    parts = vector.split([shape.numel() for shape in shapes.values()])
    return {n: part.reshape(s) for (n, s), part in zip(shapes.items(), parts, strict=True)}


def explicit(model, inputs, targets, loss):
    """The Hessian and the Gauss-Newton matrix, as they are defined."""
    point = flat(model)

    def outputs_at(vector):
        return functional_call(model, at(model, vector), (inputs,))

    H = torch.func.hessian(lambda vector: loss(outputs_at(vector), targets))(point)
    J = torch.func.jacrev(outputs_at)(point).flatten(0, -2)
    outputs = outputs_at(point)
    inner = torch.func.hessian(lambda f: loss(f.reshape(outputs.shape), targets))(outputs.flatten())
    return H, J.T @ inner @ J


def smooth():
    """A network whose Hessian is not its Gauss-Newton matrix, with class labels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, *table()


def check(found, exact):
    values = torch.linalg.eigvalsh(exact)
    trace = found.trace(estimates=6, products=30)
    slack = max(4 * trace.standard_error, 1e-9)
    assert trace.value == pytest.approx(float(exact.trace()), abs=slack)
    top = found.eigenvalues(3, tolerance=1e-10).values
    assert torch.allclose(top, values.flip(0)[:3], rtol=1e-7)
    bottom = found.eigenvalues(2, end="bottom", tolerance=1e-4).values
    assert torch.allclose(bottom, values[:2], rtol=1e-3, atol=1e-4 * float(values[-1]))
    assert found.top_eigenvalue(tolerance=1e-10) == pytest.approx(float(values[-1]), rel=1e-7)


LOSSES = {
    "cross_entropy": functional.cross_entropy,
    "mse": lambda f, y: functional.mse_loss(f, functional.one_hot(y, 3).double()),
    "squared_error": lambda f, y: (f - functional.one_hot(y, 3)).square().sum() / (2 * len(f)),
}


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_by_name_has_its_explicit_matrix(loss, matrix):
    model, inputs, labels = smooth()
    exact = explicit(model, inputs, labels, LOSSES[loss])
    targets = labels if loss == "cross_entropy" else functional.one_hot(labels, 3).double()
    check(hessian(model, inputs, targets, loss=loss, matrix=matrix), exact[matrix != "hessian"])
    assert not torch.allclose(*exact, atol=1e-2 * float(exact[0].abs().max()))


def test_a_loss_of_ones_own_has_its_explicit_matrix():
    model, inputs, labels = smooth()

    def cubed(outputs, targets):
        return (outputs.sum(1) - targets).abs().pow(3).mean()

    found = hessian(model, inputs, labels.double(), loss=cubed)
    check(found, explicit(model, inputs, labels.double(), cubed)[0])
    assert "cubed" in found.convention


@pytest.mark.parametrize("classes", [2, 5])
def test_logistic_regression_has_its_closed_form(classes):
    torch.manual_seed(1)
    model = nn.Linear(4, classes, bias=False).double()
    inputs, labels = table()
    p = model(inputs).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = torch.einsum("nij,na,nb->iajb", inner, inputs, inputs).flatten(2).flatten(0, 1)
    exact = exact.detach() / len(inputs)
    labels %= classes
    check(hessian(model, inputs, labels, loss="cross_entropy"), exact)
    check(hessian(model, inputs, labels, loss="cross_entropy", matrix="gauss_newton"), exact)


def test_linear_regression_has_its_closed_form():
    model = nn.Linear(4, 6, bias=False).double()
    inputs, _ = table()
    exact = torch.kron(torch.eye(6).double(), inputs.T @ inputs / len(inputs))
    check(hessian(model, inputs, torch.randn(40, 6).double()), exact)
    check(hessian(model, inputs, torch.randn(40, 6).double(), loss="mse"), exact * 2 / 6)


def test_the_convention_tells_matrix_loss_and_layer_apart():
    model, inputs, labels = smooth()
    whole = hessian(model, inputs, labels, loss="cross_entropy", matrix="gauss_newton")
    block = hessian(model, inputs, labels, loss="mse").per_layer()["2"]
    assert "Gauss-Newton" in whole.convention and "softmax" in whole.convention
    assert "layer 2" in block.convention and "1/(nN)" in block.convention
    assert whole.eigenvalues().convention == whole.convention
    assert whole.spectral_density(steps=4, probes=2).convention == whole.convention


def test_eigenvectors_are_those_of_the_explicit_matrix_by_parameter():
    model, inputs, labels = smooth()
    exact = explicit(model, inputs, labels, functional.cross_entropy)[0]
    H = hessian(model, inputs, labels, loss="cross_entropy")
    found = H.eigenvalues(2, tolerance=1e-12, vectors=True)
    assert {n: v.shape[1:] for n, v in found.vectors.items()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    vectors = torch.cat([part.flatten(1) for part in found.vectors.values()], dim=1)
    assert torch.allclose(vectors @ exact, found.values[:, None] * vectors, atol=1e-8)
    assert torch.allclose(vectors @ vectors.T, torch.eye(2).double(), atol=1e-8)
    assert not H.eigenvalues(2).vectors


def test_the_residual_bounds_the_distance_to_an_eigenvalue():
    model, inputs, labels = smooth()
    values = torch.linalg.eigvalsh(explicit(model, inputs, labels, functional.cross_entropy)[0])
    found = hessian(model, inputs, labels, loss="cross_entropy").eigenvalues(3, tolerance=0.1)
    distances = (values[:, None] - found.values).abs().amin(0)
    assert (distances <= found.residuals + 1e-12).all()
    assert (found.residuals < 0.2 * values[-1]).all()


def test_layers_are_the_diagonal_blocks():
    model, inputs, labels = smooth()
    exact = explicit(model, inputs, labels, functional.cross_entropy)[0]
    H = hessian(model, inputs, labels, loss="cross_entropy")
    blocks = H.per_layer()
    assert list(blocks) == ["0", "2"]
    cut = sum(p.numel() for p in model[0].parameters())
    check(blocks["0"], exact[:cut, :cut])
    check(blocks["2"], exact[cut:, cut:])


# the spectral density


def exact_density(values, found):
    z = (found.grid - values[:, None]) / found.width
    return (torch.exp(-(z**2) / 2) / (found.width * math.sqrt(2 * math.pi))).mean(0)


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_the_density_is_the_explicit_spectrums_within_its_band(matrix):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3)).double()
    inputs, labels = table()
    both = explicit(model, inputs, labels, functional.cross_entropy)
    values = torch.linalg.eigvalsh(both[matrix != "hessian"])
    H = hessian(model, inputs, labels, loss="cross_entropy", matrix=matrix)
    found = H.spectral_density(steps=30, probes=20)
    exact = exact_density(values, found)
    off = (found.density - exact).abs()
    own = 1e-3 * float(exact.max())  # what the quadrature itself leaves
    assert (off <= 4 * found.standard_error + own).all()
    assert (off > found.standard_error + own).any()  # a band of no width would hold nothing
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
    assert found.size == len(values)
    trace = found.size * (found.weights * found.nodes).sum(1)
    error = float(trace.std() / 20**0.5)
    assert float(trace.mean()) == pytest.approx(float(values.sum()), abs=4 * error)


def test_more_probes_narrow_the_band():
    model, inputs, labels = smooth()
    H = hessian(model, inputs, labels, loss="cross_entropy")
    wide, narrow = (H.spectral_density(steps=10, probes=k, width=0.02) for k in (4, 40))
    assert narrow.standard_error.mean() < wide.standard_error.mean() / 2


def test_with_as_many_steps_as_parameters_the_spectrum_is_exact():
    model, inputs, labels = smooth()
    values = torch.linalg.eigvalsh(explicit(model, inputs, labels, functional.cross_entropy)[0])
    found = hessian(model, inputs, labels, loss="cross_entropy").spectral_density(steps=60)
    assert torch.allclose(found.density, exact_density(values, found), rtol=1e-9)
    assert not found.standard_error.any()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_spectrum_of_one_value_has_a_density(scale):
    model = nn.Linear(6, 12, bias=False).double()
    inputs = scale * 6**0.5 * torch.eye(6).double()  # the Hessian is the identity, scaled
    found = hessian(model, inputs, torch.zeros(6, 12).double()).spectral_density(steps=10)
    assert float(found.grid[found.density.argmax()]) == pytest.approx(scale, abs=found.width)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
    assert found.standard_error.max() < 1e-9 * found.density.max()


# data of every kind


def as_dictionaries(inputs, targets):
    return [{"x": x, "y": y} for x, y in zip(inputs.split(17), targets.split(17), strict=True)]


def of_dictionaries(model, batch):
    outputs = model(batch["x"])
    return outputs, functional.cross_entropy(outputs, batch["y"])


def with_count(model, batch):
    outputs = model(batch["x"])
    return {"logits": outputs}, functional.cross_entropy(outputs, batch["y"]), len(outputs)


def test_every_kind_of_data_gives_the_same_numbers():
    model, inputs, labels = smooth()
    pairs = list(zip(inputs.split(13), labels.split(13), strict=True))  # the last is of one sample
    dictionaries = as_dictionaries(inputs, labels)
    kinds = [
        hessian(model, inputs, labels, loss="cross_entropy"),
        hessian(model, pairs, loss="cross_entropy"),
        hessian(model, pairs, loss=nn.CrossEntropyLoss()),
        hessian(
            model,
            DataLoader(TensorDataset(inputs, labels), batch_size=7, shuffle=True),
            loss="cross_entropy",
        ),
        hessian(model, dictionaries, evaluate=of_dictionaries),
        hessian(model, dictionaries, evaluate=with_count),
    ]
    exact = torch.linalg.eigvalsh(explicit(model, inputs, labels, functional.cross_entropy)[0])
    for kind in kinds:
        top = kind.eigenvalues(2, tolerance=1e-10).values
        assert torch.allclose(top, exact.flip(0)[:2], rtol=1e-7)


def test_the_gauss_newton_matrix_of_a_callables_outputs():
    model, inputs, labels = smooth()
    exact = explicit(model, inputs, labels, functional.cross_entropy)[1]
    batches = as_dictionaries(inputs, labels)
    check(hessian(model, batches, evaluate=of_dictionaries, matrix="gauss_newton"), exact)
    with pytest.raises(UserError, match="outputs that are a dict"):
        hessian(model, batches, evaluate=with_count, matrix="gauss_newton").top_eigenvalue()

    def apart(model, batch):
        return model(batch["x"]), functional.cross_entropy(model(batch["x"]), batch["y"])

    with pytest.raises(UserError, match="not computed from the outputs"):
        hessian(model, batches, evaluate=apart, matrix="gauss_newton").top_eigenvalue()


def test_chunks_of_samples_do_not_matter(monkeypatch):
    model, inputs, labels = smooth()
    whole = hessian(model, inputs, labels, loss="cross_entropy").trace()
    monkeypatch.setattr("flatness.measures._batches.CHUNK", 7)
    parts = hessian(model, inputs, labels, loss="cross_entropy").trace()
    assert parts.value == pytest.approx(whole.value, rel=1e-9)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_copy_is_measured_in_float64_and_the_model_left_as_it_was(kind):
    model, inputs, labels = smooth()
    coarse = copy.deepcopy(model).to(kind)
    before = copy.deepcopy(coarse.state_dict())
    double = copy.deepcopy(coarse).double()
    rounded = inputs.to(kind)
    exact = explicit(double, rounded.double(), labels, functional.cross_entropy)[0]
    found = hessian(coarse, rounded, labels, loss="cross_entropy", dtype=torch.float64)
    check(found, exact)
    assert {p.dtype for p in coarse.parameters()} == {kind}
    assert all(torch.equal(t, before[n]) for n, t in coarse.state_dict().items())
    assert all(p.grad is None for p in coarse.parameters())


def test_a_model_is_left_as_it_was_and_the_generator_too():
    model, inputs, labels = smooth()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    H = hessian(model, inputs, labels, loss="cross_entropy")
    first = H.trace(products=10)
    H.eigenvalues(2)
    H.spectral_density(steps=5, probes=2)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert torch.equal(state, torch.get_rng_state())
    assert H.trace(products=10) == first


def test_in_float32_the_numbers_are_near_those_in_float64():
    model, inputs, labels = smooth()
    single = copy.deepcopy(model).float()
    exact = hessian(model, inputs, labels, loss="cross_entropy").eigenvalues(3).values
    found = hessian(single, inputs.float(), labels, loss="cross_entropy").eigenvalues(3).values
    assert torch.allclose(found, exact, rtol=1e-3)


# what is refused


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), "not a mean over samples"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3]).double()), "not a mean over samples"),
        (nn.CrossEntropyLoss(reduction="none"), "not one number"),
        (lambda f, _: f.detach().square().mean(), "depends on no parameter"),
        ("hinge", "there are squared_error, mse, cross_entropy"),
        ("mse", "one-hot rows"),
    ],
)
def test_a_loss_without_a_hessian_is_refused(loss, message):
    model, inputs, labels = smooth()
    with pytest.raises(UserError, match=message) as caught:
        hessian(model, inputs, labels, loss=loss).trace(products=4)
    assert "\n" not in str(caught.value)


class Dwindling:
    """Batches that are fewer each time they are read."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        self.pairs = self.pairs[:-1] if len(self.pairs) > 1 else self.pairs
        return iter(list(self.pairs))


class Noisy(TensorDataset):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn_like(x), y


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: ((p for p in [(x, y)]), None), "generator, which can be read only once"),
        (lambda x, y: ([], None), "no batches"),
        (lambda x, _: (x, None), "inputs without targets"),
        (lambda x, y: (Dwindling([(x, y)] * 9), None), "change from pass to pass"),
        (lambda x, y: (DataLoader(Noisy(x, y), 40), None), "change from pass to pass"),
        (
            lambda x, y: (DataLoader(TensorDataset(x, y), 17, shuffle=True, drop_last=True), None),
            "change from pass to pass",
        ),
        (lambda x, y: ([{"x": x, "y": y}], None), "a batch is a dict"),
        (lambda x, y: (x.float(), y), "inputs are torch.float32, the parameters torch.float64"),
        (lambda x, y: (x, y[1:]), "40 inputs but 39 targets"),
        (lambda x, _: (x, 3), "targets are a int"),
    ],
)
def test_data_that_give_no_right_number_are_refused(data, message):
    model, inputs, labels = smooth()
    with pytest.raises(UserError, match=message) as caught:
        hessian(model, *data(inputs, labels), loss="cross_entropy").top_eigenvalue()
    assert "\n" not in str(caught.value)


def test_data_that_are_not_finite_are_refused_in_any_batch():
    model, inputs, labels = smooth()
    bad = inputs.clone()
    bad[-1, 0] = math.nan
    pairs = list(zip(bad.split(10), labels.split(10), strict=True))
    with pytest.raises(NumericalError, match="not finite"):
        hessian(model, pairs, loss="cross_entropy").top_eigenvalue()


@pytest.mark.parametrize("module", [nn.Dropout(), nn.BatchNorm1d(3)])
def test_a_model_in_training_mode_is_refused(module):
    model, inputs, labels = smooth()
    noisy = nn.Sequential(model, module).double()
    for data in ((inputs, labels), ([(inputs, labels)],)):
        with pytest.raises(UserError, match=r"call model\.eval\(\) first"):
            hessian(noisy, *data, loss="cross_entropy").trace(products=4)
    with pytest.raises(UserError, match=r"call model\.eval\(\) first"):
        hessian(noisy, as_dictionaries(inputs, labels), evaluate=with_count).top_eigenvalue()


@pytest.mark.parametrize("call", ["trace", "eigenvalues", "spectral_density"])
def test_a_matrix_that_is_not_symmetric_is_refused_by_its_parameter(call):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), CrookedLayer(6, 3)).double()
    inputs, labels = table()
    with pytest.raises(NumericalError, match=r"not symmetric.*parameter 2\.weight"):
        getattr(hessian(model, inputs, labels, loss="cross_entropy"), call)()


def test_settings_out_of_range_are_refused():
    model = mlp()
    H = hessian(model, *table(), loss="cross_entropy")
    with pytest.raises(UserError, match="products is 9"):
        H.trace(products=9)
    with pytest.raises(UserError, match="count is 99, but there are 67 parameters"):
        H.eigenvalues(99)
    with pytest.raises(UserError, match="probes is 1"):
        H.spectral_density(probes=1)
    with pytest.raises(UserError, match="width is -1"):
        H.spectral_density(width=-1.0)


@pytest.mark.usefixtures("as_for_users")
def test_arguments_that_are_no_choice_are_refused():
    model = mlp()
    with pytest.raises(UserError, match="matrix is 'fisher'; it is one of hessian, gauss_newton"):
        hessian(model, *table(), matrix="fisher")
    with pytest.raises(UserError, match=r"dtype is torch\.float16; make it float32 or float64"):
        hessian(model, *table(), dtype=torch.float16)
    with pytest.raises(UserError, match="end is 'middle'; it is 'top' or 'bottom'"):
        hessian(model, *table(), loss="cross_entropy").eigenvalues(end="middle")


def test_frozen_parameters_matter_where_they_are():
    model, inputs, labels = smooth()
    model[0].requires_grad_(False)
    H = hessian(model, inputs, labels, loss="cross_entropy")
    with pytest.raises(UserError, match=r"requires_grad_\(\) first"):
        H.top_eigenvalue()
    assert H.per_layer()["2"].top_eigenvalue() > 0
