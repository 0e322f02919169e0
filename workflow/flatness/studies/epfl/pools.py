"""The pools whose small models are trained and measured in stacks: the FCNN and the GAT.

A pool contains its data, and computes the models' losses (M,) from stacked parameters (M, ...) and
a batch of training samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flatness.datasets.normalised import Dataset, abalone_split, standardise
from flatness.errors import UserError
from flatness.measures.ascent import Parameters
from flatness.studies.epfl.gat import Receptive, gat_log_probabilities, initial_gat, receptive
from flatness.studies.epfl.networks import fcnn, stack, stacked_fcnn, xavier
from flatness.studies.epfl.seeds import generator, seed_of

#: Models evaluated at once on a whole data set: larger stacks fall out of the cache.
CHUNK = 5


@dataclass(frozen=True)
class Evaluation:
    """Losses of each model over whole data sets in evaluation mode, (M,).

    Attributes:
        train_loss: over the training set.
        test_loss: over the test set.
        test_accuracy: share of test samples classified right; NaN for regression.
    """

    train_loss: Tensor
    test_loss: Tensor
    test_accuracy: Tensor


class StackedPool(Protocol):
    """The interface of a pool for training and measuring."""

    samples: int

    def initial(self, seeds: Sequence[int]) -> Parameters:
        """Fresh parameters, one model a seed."""

    def batch(self, indices: Tensor) -> Tensor:
        """Training sample numbers (M, ..., b) in the form that `losses` takes."""

    def losses(
        self,
        parameters: Parameters,
        batch: Tensor,
        dropout: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Mean loss of each model on its batch, (M,); dropout is on where generators are given."""

    def whole(self, parameters: Parameters) -> Tensor:
        """Loss of each model over the training set, (M,)."""

    def evaluate(self, parameters: Parameters) -> Evaluation:
        """Losses over the training and the test set."""


class FcnnPool:
    """Regression of a standardised table: mean squared error.

    Args:
        dataset: a table.
        train_size: first rows of the training split to use; None is all.
        defects: training defects, from `defects.fcnn.TRAINING`.
        device: kind of device.
        dtype: of data and parameters.
        split: which train/test split; 0 is the report's.
    """

    def __init__(
        self,
        dataset: Dataset,
        train_size: int | None,
        defects: Sequence[str],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        split: int = 0,
    ) -> None:
        skipped = 1 if "lost_row" in defects else 0
        inputs, targets = (dataset.tensors[key][skipped:] for key in ("inputs", "targets"))
        train, test = abalone_split(len(inputs), split)
        if train_size is not None and train_size > len(train):
            raise UserError(
                f"{dataset.name}: train_size {train_size} asked for, the split has {len(train)} "
                "training rows; choose fewer or null"
            )
        train = train[:train_size]
        inputs, targets = standardise(inputs, targets, train)
        self.train = inputs[train].to(device, dtype), targets[train].to(device, dtype)
        self.test = inputs[test].to(device, dtype), targets[test].to(device, dtype)
        self.samples = len(train)
        self.elu_output = "elu_output" in defects
        self.default_init = "default_init" in defects

    def initial(self, seeds: Sequence[int]) -> Parameters:
        """Fresh parameters, one model a seed."""
        return stack([self._initial(seed) for seed in seeds])

    def _initial(self, seed: int) -> Parameters:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("initial", seed))
            model = fcnn(self.train[0].shape[1], elu_output=self.elu_output)
            if not self.default_init:
                xavier(model)
        return {
            name: values.detach().to(self.train[0]) for name, values in model.named_parameters()
        }

    def batch(self, indices: Tensor) -> Tensor:
        """Row numbers, on the device."""
        return indices.to(self.train[0].device)

    def losses(
        self,
        parameters: Parameters,
        batch: Tensor,
        dropout: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Mean squared error of each model on its rows, (M,); the network has no dropout."""
        inputs, targets = self.train
        outputs = stacked_fcnn(parameters, inputs[batch], elu_output=self.elu_output)
        return (outputs - targets[batch]).square().mean((1, 2))

    def whole(self, parameters: Parameters) -> Tensor:
        """Mean squared error of each model over the training set, (M,)."""
        return self._over(parameters, *self.train)

    def _over(self, parameters: Parameters, inputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(*(values.split(CHUNK) for values in parameters.values()), strict=True)
        losses = []
        for part in parts:
            chunk = dict(zip(parameters, part, strict=True))
            shared = inputs.expand(len(part[0]), -1, -1)
            outputs = stacked_fcnn(chunk, shared, elu_output=self.elu_output)
            losses.append((outputs - targets).square().mean((1, 2)))
        return torch.cat(losses)

    @torch.no_grad()
    def evaluate(self, parameters: Parameters) -> Evaluation:
        """Losses over the training and the test set; regression has no accuracy."""
        test_loss = self._over(parameters, *self.test)
        return Evaluation(self.whole(parameters), test_loss, torch.full_like(test_loss, torch.nan))


class GatPool:
    """Classification of a graph's nodes: cross-entropy. A batch is a weight of each training node.

    Args:
        dataset: a graph.
        train_size: must be None; the split has few training nodes already.
        defects: training defects, from `defects.gat.TRAINING`; they do not change data.
        device: kind of device.
        dtype: of data and parameters.
        split: must be 0, the published one.
    """

    def __init__(
        self,
        dataset: Dataset,
        train_size: int | None,
        defects: Sequence[str],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        split: int = 0,
    ) -> None:
        if split:
            raise UserError(f"gat on {dataset.name}: split must be 0, the published one")
        if train_size is not None:
            raise UserError(f"gat on {dataset.name}: train_size must be null, the split is fixed")
        tensors = {name: values.to(device) for name, values in dataset.tensors.items()}
        self._parts: dict[str, tuple[Receptive, Tensor]] = {}
        for part in ("train", "test"):
            nodes = tensors[f"{part}_mask"].nonzero().squeeze(1)
            graph = receptive(tensors["inputs"], tensors["edge_index"], nodes, dtype)
            self._parts[part] = graph, tensors["targets"][nodes]
        self.samples = len(self._parts["train"][1])
        self.words = tensors["inputs"].shape[1]
        self.classes = int(tensors["targets"].max()) + 1
        self.device, self.dtype = device, dtype

    def initial(self, seeds: Sequence[int]) -> Parameters:
        """Fresh parameters, one model a seed."""
        drawn = [initial_gat(self.words, self.classes, generator("initial", s)) for s in seeds]
        return {name: values.to(self.device, self.dtype) for name, values in stack(drawn).items()}

    def batch(self, indices: Tensor, *, collapse: bool = False) -> Tensor:
        """Weights of the training nodes, summing to one.

        Args:
            indices: (..., b) positions among the training nodes.
            collapse: a node drawn several times counts once, as in a mask.

        Returns:
            (..., nodes): how often each node was drawn over the number of draws.
        """
        zeros = torch.zeros(*indices.shape[:-1], self.samples, dtype=self.dtype)
        counts = zeros.scatter_add(-1, indices, torch.ones_like(indices, dtype=self.dtype))
        if collapse:
            counts = counts.clamp(max=1)
        return (counts / counts.sum(-1, keepdim=True)).to(self.device)

    def losses(
        self,
        parameters: Parameters,
        batch: Tensor,
        dropout: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Weighted mean cross-entropy of each model over the training nodes, (M,)."""
        graph, targets = self._parts["train"]
        scores = gat_log_probabilities(parameters, graph, dropout)
        return (_node_losses(scores, targets) * batch).sum(1)

    def whole(self, parameters: Parameters) -> Tensor:
        """Cross-entropy of each model over the training nodes, (M,)."""
        return self.losses(parameters, self.batch(torch.arange(self.samples)))

    @torch.no_grad()
    def evaluate(self, parameters: Parameters) -> Evaluation:
        """Losses over the training and the test nodes, and the test accuracy."""
        graph, targets = self._parts["test"]
        scores = gat_log_probabilities(parameters, graph)
        right = (scores.argmax(-1) == targets[:, None]).to(scores)
        return Evaluation(
            self.whole(parameters), _node_losses(scores, targets).mean(1), right.mean(0)
        )


def _node_losses(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (M, nodes) of log-probabilities (nodes, M, classes)."""
    index = targets[:, None, None].expand(-1, scores.shape[1], 1)
    return -scores.gather(2, index).squeeze(2).T


POOLS = {"fcnn": FcnnPool, "gat": GatPool}
