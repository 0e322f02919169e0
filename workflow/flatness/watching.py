"""Measuring sharpness along a training, within a share of its time.

At chosen steps a `Watch` measures sharpness S, MLS, the loss's largest Hessian eigenvalue against
2/lr, and worst-case sharpness, each with its error, adds a row to a table (CSV), and draws it.
Gradient descent on a quadratic of curvature λ is stable while λ < 2/lr. With full-batch descent on
networks, λ_max has been observed to rise to 2/lr and to stay there (Cohen et al., 2021).
"""

import csv
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness.errors import NumericalError, UserError
from flatness.measures.loss_hessian import hessian
from flatness.measures.losses import LossFunction, named_loss
from flatness.measures.measure import measure
from flatness.measures.worst_case_ball import worst_case_sharpness

#: Columns of the table. `_error` is a standard error, for the eigenvalue the residual ‖Hv − λv‖.
COLUMNS = (
    "step",
    "loss",
    "sharpness",
    "sharpness_error",
    "mls",
    "mls_error",
    "top_eigenvalue",
    "top_eigenvalue_error",
    "two_over_lr",
    "worst_case",
    "worst_case_error",
    "seconds",
    "note",
)
PANELS = {
    "sharpness": "S",
    "mls": "MLS",
    "top_eigenvalue": "λ_max",
    "worst_case": "worst-case sharpness",
}

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, float | int | str]


class Watch:
    """A callback for a training loop: call `step()` after each update.

    Attributes:
        rows: the table so far: one dictionary per due step, with the keys of `COLUMNS`. Numbers
            that were not measured are NaN, and `note` says why.
        convention: of the loss that `top_eigenvalue` and `two_over_lr` refer to.
    """

    def __init__(
        self,
        model: nn.Module,
        data: tuple[Tensor, Tensor],
        loss: str | LossFunction,
        optimizer: Optimizer,
        *,
        due: Callable[[int], bool],
        quantities: Collection[str],
        share: float,
        path: Path | None,
        worst_case: dict[str, Any],
        draw: bool,
        seed: int,
    ) -> None:
        self.rows: list[Row] = []
        self._model, self._data, self._optimizer = model, data, optimizer
        self._loss = named_loss(loss)
        self.convention = self._loss.convention
        self._loss_given = loss
        self._due, self._quantities, self._share = due, quantities, share
        self._path, self._worst_case, self._draw, self._seed = path, worst_case, draw, seed
        self._steps = 0
        self._start = time.perf_counter()
        self._spent = self._last = 0.0
        self._display: Any = None
        if path is not None:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(COLUMNS)

    def step(self) -> None:
        """Counts an update, and measures if a measurement is due and fits the share of time.

        Raises:
            UserError: the model or the data cannot be measured rightly.
        """
        self._steps += 1
        if not self._due(self._steps):
            return
        begun = time.perf_counter()
        if self._spent + self._last > self._share * (begun + self._last - self._start):
            self._add({"note": "skipped: it would have taken more than its share of the time"})
            return
        self._add(self._measured())
        if self._draw:
            self._show()
        self._last = time.perf_counter() - begun
        self._spent += self._last

    def lightning(self) -> Any:
        """This watch as a callback of Lightning, which counts its training batches as steps.

        Returns:
            The callback.

        Raises:
            UserError: Lightning is not installed.
        """
        try:
            base = import_module("lightning.pytorch").Callback
        except ModuleNotFoundError as error:
            raise UserError("lightning is not installed; pip install lightning") from error

        def on_train_batch_end(_self: Any, *_args: Any, **_kwargs: Any) -> None:
            self.step()

        return type("FlatnessWatch", (base,), {"on_train_batch_end": on_train_batch_end})()

    def figure(self) -> "Figure":
        """A figure of the table over steps: each quantity with ± 2 errors, λ_max beside 2/lr."""
        from matplotlib.figure import Figure  # without drawing, the core package is enough

        shown = {name: title for name, title in PANELS.items() if name in self._quantities}
        figure = Figure(figsize=(3.6 * max(len(shown), 1), 3), layout="constrained")
        steps = [row["step"] for row in self.rows if not row["note"]]
        for number, (name, title) in enumerate(shown.items(), start=1):
            axes = figure.add_subplot(1, len(shown), number)
            values, errors = (
                torch.tensor([row[column] for row in self.rows if not row["note"]]).numpy()
                for column in (name, f"{name}_error")
            )
            axes.plot(steps, values, marker=".")
            axes.fill_between(steps, values - 2 * errors, values + 2 * errors, alpha=0.3)
            if name == "top_eigenvalue":
                limits = [row["two_over_lr"] for row in self.rows if not row["note"]]
                axes.plot(steps, limits, "--", color="black", label="2/lr")
                axes.legend()
            axes.set(title=title, xlabel="step")
        return figure

    def _measured(self) -> Row:
        with _in_evaluation_mode(self._model):
            try:
                return self._numbers()
            except NumericalError as error:  # a diverged training is a result, not an error
                return {"note": str(error)}

    def _numbers(self) -> Row:
        inputs, targets = self._data
        row: Row = {"two_over_lr": 2 / self._optimizer.param_groups[0]["lr"]}
        with torch.no_grad():
            row["loss"] = float(self._loss.function(self._model(inputs), targets))
        by_slope = [name for name in ("sharpness", "mls") if name in self._quantities]
        if by_slope:
            found = measure(self._model, inputs, quantities=by_slope)
            for name in by_slope:
                row |= {name: found[name].value, f"{name}_error": found[name].standard_error}
        if "top_eigenvalue" in self._quantities:
            H = hessian(self._model, inputs, targets, loss=self._loss_given, seed=self._seed)
            top = H.eigenvalues(tolerance=1e-3)
            row["top_eigenvalue"] = float(top.values[0])
            row["top_eigenvalue_error"] = float(top.residuals[0])
        if "worst_case" in self._quantities:
            rise = worst_case_sharpness(
                self._model,
                inputs,
                targets,
                loss=self._loss.function,
                seed=self._seed,
                **self._worst_case,
            )
            row |= {"worst_case": rise.value, "worst_case_error": rise.standard_error}
        return row

    def _add(self, found: Row) -> None:
        row: Row = dict.fromkeys(COLUMNS, float("nan")) | {"note": ""} | found
        row |= {"step": self._steps, "seconds": time.perf_counter() - self._start}
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)

    def _show(self) -> None:
        from IPython.display import display  # exists only in a notebook

        if self._display is None:
            self._display = display(self.figure(), display_id=True)
        else:
            self._display.update(self.figure())


@contextmanager
def _in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def watch(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: str | LossFunction,
    optimizer: Optimizer,
    at: int | Collection[int] = 100,
    quantities: Collection[str] = tuple(PANELS),
    share: float = 0.05,
    path: str | Path | None = None,
    rho: float = 0.01,
    restarts: int = 4,
    batch_size: int = 64,
    draw: bool | None = None,
    seed: int = 0,
) -> Watch:
    """Measures sharpness along a training; call `step()` of the returned watch after each update.

    The model is measured in evaluation mode; it, its gradients and generators are left unchanged.

    Args:
        model: the network that is trained.
        inputs: (n, ...), the samples to measure on; a few hundred training samples are enough.
        targets: (n, ...).
        loss: the training loss, as in `flatness.hessian`. The largest eigenvalue and 2/lr are
            compared in its convention. S always refers to ½ mean ‖f(x) − y‖².
        optimizer: the learning rate of its first group is read. With momentum β the limit of
            stability is 2(1 + β)/lr; the table has 2/lr.
        at: the interval in steps, or the steps to measure, counted from 1.
        quantities: some of "sharpness", "mls", "top_eigenvalue" and "worst_case".
        share: share of the time since this call that measuring may take. A due step is skipped if
            the time of the last measurement would exceed the share, and its row says so. The first
            due step is always measured. 1 skips none.
        path: CSV file to which each row is written; None keeps the table only in `rows`.
        rho: ρ of the worst-case sharpness, an adaptive box.
        restarts: number of its batches.
        batch_size: size of its batches.
        draw: whether IPython draws the table after each measurement; None: only in notebooks.
        seed: of starting vectors and batches.

    Returns:
        The watch.

    Raises:
        UserError: an argument is wrong.
    """
    unknown = set(quantities) - set(PANELS)
    if unknown:
        raise UserError(
            f"quantities: no {', '.join(sorted(unknown))}; there are {', '.join(PANELS)}"
        )
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer is a {type(optimizer).__name__}; pass the one that trains")
    if not 0 < share <= 1:
        raise UserError(f"share is {share}; it must be above 0 and at most 1")
    if isinstance(at, int) and at < 1:
        raise UserError(f"at is {at}; it must be at least 1")
    if isinstance(at, int):
        every = at
        due = lambda step: step % every == 0  # noqa: E731
    else:
        due = frozenset(at).__contains__
    return Watch(
        model,
        (inputs, targets),
        loss,
        optimizer,
        due=due,
        quantities=quantities,
        share=share,
        path=None if path is None else Path(path),
        worst_case={"rho": rho, "restarts": restarts, "batch_size": batch_size},
        draw="ipykernel" in sys.modules if draw is None else draw,
        seed=seed,
    )
