"""Models of one batch size that take every step together, as one batched pass.

The weights of M models are stacked, (M, ...), and `torch.func` maps the gradient of one model's
loss over them. On a GPU the step is captured in a CUDA graph once and replayed: small networks
otherwise spend most of a step on starting kernels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional

from flatness.studies.chen.config import Setting
from flatness.studies.chen.images import Labelled
from flatness.studies.chen.train import data_order

#: Steps whose batches are put on the device at once.
SEGMENT = 100
#: Steps before the capture of a CUDA graph, in which libraries initialise themselves.
WARM_UP = 3


class Stack:
    """Models that are trained together.

    Attributes:
        weights: parameter name to the weights of all models, (M, ...).
        step: steps taken.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        settings: Sequence[Setting],
        seeds: Sequence[int],
        train: Labelled,
    ) -> None:
        """Stacks models of one architecture; their parameters become views of the stack.

        Args:
            models: the networks, on the device of the images.
            settings: of each model, all of one batch size and optimizer.
            seeds: of each model's data order.
            train: training images.
        """
        self.step = 0
        self.weights = {name: w.detach() for name, w in stack_module_state(models)[0].items()}
        for index, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self.weights[name][index]
        self.descent = Descent(settings, self.weights)
        self._inputs, self._targets = train.inputs, train.targets
        self._gradients = _gradients_of(models[0])
        self._batches = Batches(len(train), settings[0].batch_size, seeds, self._targets.device)
        self._losses = self._targets.new_full((len(models),), torch.nan)
        self._graph: torch.cuda.CUDAGraph | None = None

    def advance(self, stop: int) -> Tensor:
        """Trains all models up to step `stop`.

        Args:
            stop: number of the step.

        Returns:
            The last batch's loss of each model, (M,); NaN before the first step.
        """
        while self.step < stop:
            steps = min(stop - self.step, SEGMENT)
            if self._targets.is_cuda and self._graph is None:
                self._graph = self._capture()
            self._batches.load(self.step, steps)
            take_step = self._graph.replay if self._graph else self._take_step
            for _ in range(steps):
                take_step()
            self.step += steps
        return self._losses

    def buffers(self) -> dict[str, Tensor]:
        """All tensors that a step changes and the next one needs, by name; the memory itself."""
        weights = {f"weight/{name}": value for name, value in self.weights.items()}
        return weights | {f"optimizer/{name}": v for name, v in self.descent.buffers.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restores the content of `buffers` at a step."""
        for name, buffer in self.buffers().items():
            buffer.copy_(tensors[name])
        self.step = step

    @torch.no_grad()
    def _take_step(self) -> None:
        batch = self._batches.next()
        gradients, losses = self._gradients(self.weights, self._inputs[batch], self._targets[batch])
        self.descent.update(self.weights, gradients)
        self._losses.copy_(losses)

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Records a step; the models end as they were."""
        before = {name: buffer.clone() for name, buffer in self.buffers().items()}
        self._batches.load(self.step, WARM_UP)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._take_step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._take_step()
        self.restore(before, self.step)
        return graph


def _gradients_of(
    model: nn.Module,
) -> Callable[[dict[str, Tensor], Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]:
    """Gradients and values of the mean squared error, for stacked weights and batches."""

    def loss(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(functional_call(model, weights, (inputs,)), targets)

    return vmap(grad_and_value(loss))


class Batches:
    """The rows of the next batches in the loop's order, at a fixed address on the device.

    A captured step can only read from fixed addresses, so it reads row `cursor` and advances it.
    """

    def __init__(
        self, samples: int, batch_size: int, seeds: Sequence[int], device: torch.device
    ) -> None:
        """Makes room for a segment.

        Args:
            samples: training samples.
            batch_size: samples in a batch.
            seeds: of each model's order.
            device: where to keep them.
        """
        self._samples, self._batch_size = samples, batch_size
        self._orders: dict[int, Iterator[Tensor]] = dict.fromkeys(seeds)
        self._order_of = torch.tensor([list(self._orders).index(seed) for seed in seeds])
        shape = (SEGMENT, len(seeds), batch_size)
        self._rows = torch.zeros(shape, dtype=torch.int64, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._loaded_to = -1

    def load(self, first: int, steps: int) -> None:
        """Puts the batches of some steps on the device; models of one seed share an order.

        Args:
            first: number of the first step.
            steps: how many, at most `SEGMENT`.
        """
        if first != self._loaded_to:
            self._orders = {
                seed: data_order(self._samples, self._batch_size, seed, first)
                for seed in self._orders
            }
        batches = [[next(order) for order in self._orders.values()] for _ in range(steps)]
        rows = torch.stack([torch.stack(step) for step in batches])
        self._rows[:steps].copy_(rows[:, self._order_of])
        self._cursor.zero_()
        self._loaded_to = first + steps

    def next(self) -> Tensor:
        """The next step's rows of each model, int64 (M, batch_size)."""
        rows = self._rows.index_select(0, self._cursor).squeeze(0)
        self._cursor.add_(1)
        return rows


class Descent:
    """SGD or Adam as PyTorch's, with each model's own learning rate, momentum and weight decay.

    Attributes:
        buffers: its state by name, empty for plain SGD.
    """

    def __init__(self, settings: Sequence[Setting], weights: Mapping[str, Tensor]) -> None:
        """Starts with empty state.

        Args:
            settings: of each model, all of one optimizer.
            weights: of the stack, (M, ...).
        """
        self._settings = settings
        self._options = {
            name: {option: self._each(option, w) for option in ("learning_rate", *self._used())}
            for name, w in weights.items()
        }
        self._is_adam = settings[0].optimizer == "adam"
        kinds = ("mean", "square") if self._is_adam else ("momentum",) * self._has("momentum")
        self.buffers = {
            f"{kind}/{name}": torch.zeros_like(w) for kind in kinds for name, w in weights.items()
        }
        if self._is_adam:
            # in float64, since early corrections are 1 minus nearly 1
            device = next(iter(weights.values())).device
            self.buffers["updates"] = torch.zeros((), dtype=torch.float64, device=device)

    def update(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Moves the weights, in place.

        Args:
            weights: of the stack, (M, ...).
            gradients: of each model's loss, by the same names.
        """
        if self._is_adam:
            self.buffers["updates"].add_(1)
        for name, w in weights.items():
            gradient, options = gradients[name], self._options[name]
            if "weight_decay" in options:
                gradient = gradient.addcmul(options["weight_decay"], w)
            if self._is_adam:
                gradient = self._adam(name, gradient)
            elif "momentum" in options:
                buffer = self.buffers[f"momentum/{name}"]
                gradient = buffer.mul_(options["momentum"]).add_(gradient)
            w.addcmul_(options["learning_rate"], gradient, value=-1)

    def _adam(self, name: str, gradient: Tensor) -> Tensor:
        """Adam's direction with PyTorch's default constants (Kingma and Ba, algorithm 1)."""
        keep_mean, keep_square, tiny = 0.9, 0.999, 1e-8
        mean, square = self.buffers[f"mean/{name}"], self.buffers[f"square/{name}"]
        updates = self.buffers["updates"]
        mean.lerp_(gradient, 1 - keep_mean)
        square.mul_(keep_square).addcmul_(gradient, gradient, value=1 - keep_square)
        root = square.sqrt().div_((1 - keep_square**updates).sqrt()).add_(tiny)
        return mean / (1 - keep_mean**updates) / root

    def _has(self, option: str) -> bool:
        return any(getattr(setting, option) for setting in self._settings)

    def _used(self) -> list[str]:
        return [option for option in ("momentum", "weight_decay") if self._has(option)]

    def _each(self, option: str, weights: Tensor) -> Tensor:
        """An option of each model, in a shape that broadcasts over the weights."""
        values = [getattr(setting, option) for setting in self._settings]
        shape = (-1, *(1,) * (weights.dim() - 1))
        return torch.tensor(values, dtype=weights.dtype, device=weights.device).view(shape)
