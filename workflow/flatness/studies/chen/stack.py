"""Models that take every step together, as one batched pass for each batch size.

The weights of M models are stacked, (M, ...), and `torch.func` maps the gradient of one model's
loss over them. On a GPU the step of all models is captured in a CUDA graph once and replayed, the
groups of models as parallel branches: small networks otherwise spend most of a step on starting
kernels.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional

from flatness.studies.chen.config import Setting
from flatness.studies.chen.images import Labelled
from flatness.studies.chen.patch_convolution import with_patch_convolutions
from flatness.studies.chen.train import data_order

#: Steps whose batches are put on the device at once.
SEGMENT = 100
#: Steps before the capture of a CUDA graph, in which libraries initialise themselves.
WARM_UP = 3


class Stack:
    """Models that are trained together.

    Attributes:
        step: steps taken.
    """

    def __init__(
        self,
        models: Sequence[nn.Sequential],
        settings: Sequence[Setting],
        seeds: Sequence[int],
        train: Labelled,
    ) -> None:
        """Stacks models of one architecture; their parameters become views of the stack.

        Args:
            models: the networks, on the device of the images.
            settings: of each model.
            seeds: of each model's data order.
            train: training images.
        """
        self.step = 0
        self._losses = train.targets.new_full((len(models),), torch.nan)
        self._graph: torch.cuda.CUDAGraph | None = None
        groups: dict[tuple[int, str], list[int]] = {}
        for number, setting in enumerate(settings):
            groups.setdefault((setting.batch_size, setting.optimizer), []).append(number)
        self._numbers = list(groups.values())
        self._groups = [
            Group(*([of[number] for number in numbers] for of in (models, settings, seeds)), train)
            for numbers in self._numbers
        ]

    def keep(self, numbers: Collection[int]) -> None:
        """Goes on with some of the models; the weights of the others stay as they are.

        Args:
            numbers: places in the stack of those that go on; of models that left: no effect.
        """
        left = [
            (group, own, [place for place, number in enumerate(own) if number in numbers])
            for group, own in zip(self._groups, self._numbers, strict=True)
        ]
        if all(len(places) == len(own) for _, own, places in left):
            return
        self._groups = [group.keep(places) for group, _, places in left if places]
        self._numbers = [[own[place] for place in places] for _, own, places in left if places]
        self._graph = None

    def advance(self, stop: int) -> Tensor:
        """Trains up to step `stop`.

        Args:
            stop: number of the step.

        Returns:
            The last batch's loss of each model, (M,); NaN before its first step.
        """
        while self.step < stop:
            steps = min(stop - self.step, SEGMENT)
            if self._losses.is_cuda and self._graph is None:
                self._graph = self._capture()
            self._load(steps)
            take_step = self._graph.replay if self._graph else self._take_step
            for _ in range(steps):
                take_step()
            self.step += steps
        for group, numbers in zip(self._groups, self._numbers, strict=True):
            self._losses[numbers] = group.losses
        return self._losses

    def buffers(self) -> dict[str, Tensor]:
        """All tensors that a step changes and the next one needs, by name; the memory itself."""
        return {
            f"{group.name}/{name}": buffer
            for group in self._groups
            for name, buffer in group.buffers().items()
        }

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restores the content of `buffers` at a step."""
        for name, buffer in self.buffers().items():
            buffer.copy_(tensors[name])
        self.step = step

    def _load(self, steps: int) -> None:
        for group in self._groups:
            group.batches.load(self.step, steps)

    def _take_step(self) -> None:
        for group in self._groups:
            group.take_step()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Records a step, the groups side by side; the models end as they were."""
        before = {name: buffer.clone() for name, buffer in self.buffers().items()}
        self._load(WARM_UP)
        with beside() as stream, torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._take_step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), ExitStack() as branches:
            for group in self._groups:
                with torch.cuda.stream(branches.enter_context(beside())):
                    group.take_step()
        self.restore(before, self.step)
        return graph


@contextmanager
def beside() -> Iterator[torch.cuda.Stream]:
    """A stream that begins after the present work and ends before what follows."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    yield stream
    current.wait_stream(stream)


class Group:
    """Models of one batch size and optimizer: their step is one batched pass.

    Attributes:
        name: such as "batch20_sgd".
        batches: the rows of the next steps.
        losses: of the last batch, (M,); NaN before the first step.
    """

    def __init__(
        self,
        models: Sequence[nn.Sequential],
        settings: Sequence[Setting],
        seeds: Sequence[int],
        train: Labelled,
    ) -> None:
        """Stacks the models; arguments as `Stack`."""
        self._members = models, settings, seeds
        self._train = train
        self.name = f"batch{settings[0].batch_size}_{settings[0].optimizer}"
        stacked = stack_module_state(models)[0]
        self._weights = {name: w.detach().contiguous() for name, w in stacked.items()}
        for index, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self._weights[name][index]
        self._descent = Descent(settings, self._weights)
        self._inputs, self._targets = train.inputs.contiguous(), train.targets
        self._gradients = _gradients_of(with_patch_convolutions(models[0]))
        self.batches = Batches(len(train), settings[0].batch_size, seeds, self._targets.device)
        self.losses = self._targets.new_full((len(models),), torch.nan)

    def keep(self, places: Sequence[int]) -> "Group":
        """A group of some of the models, with their state; it takes over their parameters."""
        members = ([each[place] for place in places] for each in self._members)
        smaller = Group(*members, self._train)
        for name, buffer in smaller.buffers().items():
            own = self.buffers()[name]
            buffer.copy_(own[places] if own.dim() else own)
        smaller.losses.copy_(self.losses[places])
        return smaller

    def buffers(self) -> dict[str, Tensor]:
        """As of `Stack`."""
        weights = {f"weight/{name}": value for name, value in self._weights.items()}
        return weights | {f"optimizer/{name}": v for name, v in self._descent.buffers.items()}

    @torch.no_grad()
    def take_step(self) -> None:
        """Takes the step whose batches come next."""
        batch = self.batches.next()
        gradients, losses = self._gradients(
            self._weights, self._inputs[batch], self._targets[batch]
        )
        self._descent.update(self._weights, gradients)
        self.losses.copy_(losses)


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
        self._seeds = list(dict.fromkeys(seeds))
        self._orders: list[Iterator[Tensor]] = []
        self._order_of = torch.tensor([self._seeds.index(seed) for seed in seeds])
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
            self._orders = [
                data_order(self._samples, self._batch_size, seed, first) for seed in self._seeds
            ]
        batches = [[next(order) for order in self._orders] for _ in range(steps)]
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
