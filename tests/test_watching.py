"""Following a training: the table, the share of time, the edge of stability."""

import csv
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import flatness
from flatness import hessian, watch, watching
from flatness.errors import UserError
from flatness.watching import COLUMNS


def case(module=None):
    torch.manual_seed(0)
    layers = [nn.Linear(3, 6), nn.Tanh(), *([module] if module else []), nn.Linear(6, 2)]
    model = nn.Sequential(*layers).double()
    inputs, targets = torch.randn(12, 3).double(), torch.randn(12, 2).double()
    return model, inputs, targets, torch.optim.SGD(model.parameters(), lr=0.05)


def train(model, inputs, targets, optimizer, watched, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        watched.step()


def cubic():
    """A network that learns a cubic by full-batch descent."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)
    ).double()
    x = torch.linspace(-1, 1, 20).double()[:, None]
    return model, x, 4 * x**3 - 3 * x


def test_on_full_batch_descent_the_largest_eigenvalue_comes_to_hover_at_two_over_lr():
    model, x, y = cubic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watched = watch(
        model, x, y, loss="mse", optimizer=optimizer, at=60, quantities=["top_eigenvalue"], share=1
    )
    train(model, x, y, optimizer, watched, 1200)
    ratios = [row["top_eigenvalue"] / row["two_over_lr"] for row in watched.rows]
    assert ratios[0] < 0.7
    late = ratios[-10:]
    assert 0.9 < sum(late) / 10 < 1.1 and min(late) < 1 < max(late)
    assert watched.rows[-1]["loss"] < watched.rows[0]["loss"] / 10
    # in the other convention of the same loss it would hover at another number
    other = hessian(model, x, y, loss="squared_error").top_eigenvalue()
    assert other / watched.rows[-1]["two_over_lr"] < 0.7


def test_the_numbers_are_those_of_the_public_calls_at_that_step():
    model, inputs, targets, optimizer = case()
    watched = watch(
        model, inputs, targets, loss="mse", optimizer=optimizer, at=[3], share=1, rho=0.05
    )
    train(model, inputs, targets, optimizer, watched, 3)
    (row,) = watched.rows
    found = flatness.measure(model, inputs)
    assert (row["sharpness"], row["mls"]) == (found["sharpness"].value, found["mls"].value)
    assert row["sharpness_error"] == found["sharpness"].standard_error
    H = hessian(model, inputs, targets, loss="mse")
    assert row["top_eigenvalue"] == pytest.approx(H.top_eigenvalue(), rel=1e-3)
    assert row["two_over_lr"] == 2 / 0.05
    rise = flatness.worst_case_sharpness(
        model, inputs, targets, loss=functional.mse_loss, rho=0.05, restarts=4
    )
    assert (row["worst_case"], row["worst_case_error"]) == (rise.value, rise.standard_error)
    assert row["loss"] == functional.mse_loss(model(inputs), targets).item()
    assert watched.convention == H.loss.convention


def test_the_table_on_disk_is_tidy_and_grows_with_each_row(tmp_path):
    path = tmp_path / "watch.csv"
    model, inputs, targets, optimizer = case()
    watched = watch(
        model, inputs, targets, loss="mse", optimizer=optimizer, at=2, share=1, path=path,
        quantities=["mls"],
    )  # fmt: skip
    for expected in (0, 1, 1, 2):
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == expected
        train(model, inputs, targets, optimizer, watched, 1 if expected else 2)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["step"] for row in rows] == ["2", "4"]
    assert float(rows[1]["mls"]) == watched.rows[1]["mls"]
    assert math.isnan(float(rows[0]["sharpness"]))  # not asked for


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_measuring_keeps_within_its_share_of_the_time(monkeypatch, share):
    now = [0.0]
    monkeypatch.setattr(watching, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    model, inputs, targets, optimizer = case()
    watched = watch(
        model, inputs, targets, loss="mse", optimizer=optimizer, at=1, share=share,
        quantities=["mls"],
    )  # fmt: skip

    def in_two_seconds():
        now[0] += 2
        return {"mls": 1.0}

    monkeypatch.setattr(watched, "_measured", in_two_seconds)
    spent = 0
    for _ in range(300):
        now[0] += 1  # a step of the training
        before = len([row for row in watched.rows if not row["note"]])
        watched.step()
        spent += 2 * (len([row for row in watched.rows if not row["note"]]) - before)
        if now[0] > 2 / share + 2:  # the first measurement is for free
            assert spent <= share * now[0]
    assert spent > 0.5 * share * now[0]
    assert len(watched.rows) == 300
    skipped = [row for row in watched.rows if row["note"]]
    assert skipped and all("skipped" in row["note"] for row in skipped)
    assert all(math.isnan(row["mls"]) for row in skipped)


def test_the_training_goes_on_as_if_nobody_watched():
    ends = []
    for watching_too in (False, True):
        model, inputs, targets, optimizer = case(nn.Dropout(0.5))
        watched = watch(
            model, inputs, targets, loss="mse", optimizer=optimizer, at=1, share=1
        ) if watching_too else SimpleNamespace(step=lambda: None)  # fmt: skip
        train(model.train(), inputs, targets, optimizer, watched, 5)
        assert model.training and model[2].training
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_a_training_that_diverges_is_noted_and_not_stopped():
    model, inputs, targets, optimizer = case()
    watched = watch(model, inputs, targets, loss="mse", optimizer=optimizer, at=1, share=1)
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    watched.step()
    assert "not finite" in watched.rows[0]["note"] and math.isnan(watched.rows[0]["sharpness"])


def test_each_quantity_has_a_panel_and_the_eigenvalue_its_limit():
    model, inputs, targets, optimizer = case()
    watched = watch(model, inputs, targets, loss="mse", optimizer=optimizer, at=1, share=1)
    train(model, inputs, targets, optimizer, watched, 3)
    panels = {axes.get_title(): axes for axes in watched.figure().axes}
    assert list(panels) == ["S", "MLS", "λ_max", "worst-case sharpness"]
    limits = panels["λ_max"].get_lines()[1]
    assert limits.get_label() == "2/lr" and list(limits.get_ydata()) == [40.0] * 3
    drawn = panels["MLS"].get_lines()[0].get_ydata()
    assert list(drawn) == pytest.approx([row["mls"] for row in watched.rows])


def test_in_a_notebook_one_picture_is_drawn_anew(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda figure: shown.append(("again", figure)))

    def display(figure, *, display_id):
        assert display_id
        shown.append(("first", figure))
        return handle

    module = ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    model, inputs, targets, optimizer = case()
    watched = watch(
        model, inputs, targets, loss="mse", optimizer=optimizer, at=1, share=1, quantities=["mls"]
    )
    train(model, inputs, targets, optimizer, watched, 3)
    assert [kind for kind, _ in shown] == ["first", "again", "again"]


def test_lightning_counts_its_batches_as_steps(monkeypatch):
    class Callback:
        pass

    module = ModuleType("lightning.pytorch")
    module.Callback = Callback
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    model, inputs, targets, optimizer = case()
    watched = watch(
        model, inputs, targets, loss="mse", optimizer=optimizer, at=2, share=1, quantities=["mls"]
    )
    callback = watched.lightning()
    assert isinstance(callback, Callback)
    for index in range(4):
        callback.on_train_batch_end(None, None, None, None, index)
    assert [row["step"] for row in watched.rows] == [2, 4]


def test_without_lightning_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    model, inputs, targets, optimizer = case()
    with pytest.raises(UserError, match="pip install lightning"):
        watch(model, inputs, targets, loss="mse", optimizer=optimizer).lightning()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantities": ["mls", "trace"]}, "no trace; there are sharpness, mls"),
        ({"share": 0}, "share is 0"),
        ({"at": 0}, "at is 0"),
        ({"loss": "hinge"}, "no 'hinge'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_training(settings, message):
    model, inputs, targets, optimizer = case()
    with pytest.raises(UserError, match=message):
        watch(model, inputs, targets, **{"loss": "mse", "optimizer": optimizer} | settings)
