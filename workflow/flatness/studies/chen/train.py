"""Training of the compression study: plain steps on squared error, with kept weights.

Data are loaded once and indexed; there is no data loader. The order of an epoch is a function of
(seed, epoch), and a partial last batch is dropped. So weights, optimizer state and step number are
enough to resume.
"""

import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from flatness.records.checkpoints import (
    checkpoint_name,
    restore_training,
    save_checkpoints,
    training_tensors,
)
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.chen.config import GridTraining, Setting
from flatness.studies.chen.crossings import Crossings
from flatness.studies.chen.images import (
    Images,
    Labelled,
    build_network,
    load_images,
    loss_and_accuracy,
)
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.steps import step_of

#: Steps between two checks of the loss, for progress, divergence and the time of saving.
STRIDE = 100
#: Seconds of training that may be lost by a kill; no effect on results.
SAVE_SECONDS = 30.0


def train_block(
    experiment: Annotated[str, typer.Option(help="training slice of the config, as JSON")],
    data: Annotated[Path, typer.Option(help="normalised data file")],
    seeds: Annotated[
        str, typer.Option(help="first and last, from the setting's first seed, as 0-4")
    ],
    scratch: Annotated[Path, typer.Option(help="folder of the resumable state")],
    final: Annotated[Path, typer.Option(help="weights that are compared, to write (safetensors)")],
    trajectory: Annotated[Path, typer.Option(help="weights at other steps, to write")],
    table: Annotated[Path, typer.Option(help="table of checkpoints to write")],
) -> None:
    """Trains one setting of a family over a block of seeds; resumes after a kill."""
    chosen = GridTraining.model_validate_json(experiment)
    images = load_images(data, chosen)
    name = content_hash(chosen)
    last = chosen.steps[-1]
    everyone = chosen.setting.seeds(seeds)
    with (
        Scratch(scratch, name) as state,
        tqdm(total=len(everyone) * last, unit="step", mininterval=2) as bar,
    ):
        for seed in everyone:
            bar.set_description(f"{chosen.family} {chosen.setting.name} seed {seed}")
            train_seed(chosen, images, seed, state, bar)
        kept = {seed: kept_steps(chosen, state, seed) for seed in everyone}
        compared = {seed: [chosen.end] for seed in kept}
        others = {seed: [s for s in steps if s != chosen.end] for seed, steps in kept.items()}
        _write_weights(final, state, compared, name)
        _write_weights(trajectory, state, others, name)
        _write_rows(table, state, kept, chosen, images)
        for file in state.folder.glob("*.safetensors"):
            file.unlink()


def train_seed(
    experiment: GridTraining, images: Images, seed: int, scratch: Scratch, bar: tqdm
) -> None:
    """Trains one seed, or the rest of it, and leaves its checkpoints in the scratch folder.

    If a model's loss is no longer finite, its training stops: its remaining checkpoints contain no
    weights, but the reason.

    Args:
        experiment: what to train.
        images: to train on and to evaluate on.
        seed: of initial weights and data order.
        scratch: where state and checkpoints (`scratch_name`) are kept.
        bar: progress, in steps.
    """
    trainer = Trainer(build_network(experiment, seed), experiment.setting, images.train, seed)
    crossings = Crossings(experiment.losses, len(images.train), experiment.setting.batch_size)
    looks = crossings.looks(experiment.steps[-1])
    saved = scratch.load(f"seed{seed}")
    passed = kept_steps(experiment, scratch, seed) if saved else []
    if any(scratch.load(scratch_name(seed, step)) is None for step in passed):
        saved = None  # a damaged checkpoint can only be replaced by training from the start
    looked = trainer.restore(saved)
    if saved:
        crossings.restore(saved[1]["crossings"])
    bar.update(max(looked, 0))
    clock = time.monotonic()
    last = experiment.steps[-1]
    for stop in sorted({*range(0, last, STRIDE), *experiment.steps, *looks}):
        if stop <= looked:
            continue
        bar.update(stop - trainer.step)
        loss = trainer.advance(stop)
        bar.set_postfix_str(f"batch loss {loss:.2e}", refresh=False)
        scheduled = stop in experiment.steps
        found = (scheduled or stop in looks) and crosses(trainer, images, crossings)
        if scheduled or found:
            columns = evaluate(trainer, images)
            weights = {} if columns["diverged"] else dict(trainer.model.named_parameters())
            scratch.save(scratch_name(seed, stop), weights, columns)
            bar.set_postfix_str(
                f"loss {columns['train_loss']:.2e}, accuracy {columns['train_accuracy']:.1%}"
            )
        if stop == last or time.monotonic() - clock > SAVE_SECONDS:
            tensors, metadata = trainer.state()
            scratch.save(f"seed{seed}", tensors, metadata | {"crossings": crossings.state()})
            clock = time.monotonic()


def crosses(trainer: "Trainer", images: Images, crossings: Crossings) -> bool:
    """Evaluates the loss over all training images, if anything must still be reached.

    Args:
        trainer: the model in training.
        images: to evaluate on.
        crossings: losses to reach; updated when reached.

    Returns:
        Whether this step's weights are to be kept.
    """
    if not crossings.waiting or trainer.diverged_at is not None:
        return False
    return crossings.reached(trainer.step, *loss_and_accuracy(trainer.model, images.train))


def kept_steps(experiment: GridTraining, scratch: Scratch, seed: int) -> list[int]:
    """The steps, up to that of the saved state, at which weights of a seed are kept, ascending."""
    state = scratch.load(f"seed{seed}")[1]
    known = [step for step in experiment.steps if step <= state["step"]]
    return sorted({*known, *state["crossings"]["kept"]})


def scratch_name(seed: int, step: int) -> str:
    """Name of a checkpoint's state in the scratch folder."""
    return f"seed{seed}_step{step}"


class Trainer:
    """One model in training: the network, its optimizer, the current step.

    Attributes:
        model: the network, its weights those after `step` steps.
        seed: of the data order.
        step: steps taken.
        diverged_at: step at which the loss was not finite; None if it is finite.
    """

    def __init__(self, model: nn.Module, setting: Setting, train: Labelled, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.step = 0
        self.diverged_at: int | None = None
        self._inputs, self._targets = train.inputs, train.targets
        self._batch_size = setting.batch_size
        self._take_step = step_of(model, setting)

    def advance(self, stop: int) -> float:
        """Trains up to step `stop`; returns the last batch's loss, NaN where no step was taken."""
        loss = torch.tensor(math.nan)
        if self.diverged_at is None and stop > self.step:
            order = data_order(len(self._targets), self._batch_size, self.seed, self.step)
            for index in islice(order, stop - self.step):
                batch = index.to(self._targets.device)
                loss = self._take_step(self._inputs[batch], self._targets[batch])
            if not math.isfinite(loss.item()):
                self.diverged_at = stop
        self.step = stop
        return loss.item()

    @property
    def execution(self) -> str:
        """How its steps are performed, as in rows."""
        return self._take_step.execution

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata from which `restore` continues exactly."""
        tensors = training_tensors(self.model, self._take_step.optimizer)
        return tensors, {"step": self.step, "diverged_at": self.diverged_at}

    def restore(self, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> int:
        """Restores a saved state.

        Args:
            saved: a result of `state`, or None.

        Returns:
            The step it had reached; -1 where nothing was saved.
        """
        if saved is None:
            return -1
        tensors, metadata = saved
        restore_training(self.model, self._take_step.optimizer, tensors)
        self.step, self.diverged_at = metadata["step"], metadata["diverged_at"]
        return self.step


def data_order(samples: int, batch_size: int, seed: int, first_step: int) -> Iterator[Tensor]:
    """The batches from a step on, without end.

    Each epoch has its own permutation; samples that do not fill a last batch are skipped.

    Args:
        samples: training samples.
        batch_size: samples in a batch, at most `samples`.
        seed: of the order.
        first_step: step to begin with.

    Yields:
        Row numbers (batch_size,), int64.
    """
    length = samples // batch_size
    epoch, skip = divmod(first_step, length)
    while True:
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(samples))
        yield from order[: length * batch_size].view(length, batch_size)[skip:]
        epoch, skip = epoch + 1, 0


def evaluate(trainer: Trainer, images: Images) -> dict[str, Any]:
    """The columns of a checkpoint: loss and accuracy on training and test images."""
    values = dict.fromkeys(("train_loss", "train_accuracy", "test_loss", "test_accuracy"), math.nan)
    if trainer.diverged_at is None:
        values["train_loss"], values["train_accuracy"] = loss_and_accuracy(
            trainer.model, images.train
        )
        values["test_loss"], values["test_accuracy"] = loss_and_accuracy(trainer.model, images.test)
        if not math.isfinite(values["train_loss"]):
            trainer.diverged_at = trainer.step
    diverged = trainer.diverged_at is not None
    reason = f"training loss not finite by step {trainer.diverged_at}" if diverged else ""
    place = {"seed": trainer.seed, "step": trainer.step}
    return place | values | {"diverged": diverged, "reason": reason}


def _write_weights(
    path: Path, scratch: Scratch, kept: dict[int, list[int]], experiment: str
) -> None:
    """Gathers checkpoints into one file."""
    models = {
        checkpoint_name(seed, step): scratch.load(scratch_name(seed, step))[0]
        for seed, steps in kept.items()
        for step in steps
    }
    save_checkpoints(path, models, {"experiment": experiment})


def _write_rows(
    path: Path,
    scratch: Scratch,
    kept: dict[int, list[int]],
    experiment: GridTraining,
    images: Images,
) -> None:
    execution = step_of(build_network(experiment, next(iter(kept))), experiment.setting).execution
    common = {
        "family": experiment.family,
        "setting": experiment.setting.name,
        "dataset": experiment.dataset,
        "demo": images.demo,
        "train_size": len(images.train),
        **provenance(content_hash(experiment), device=experiment.device, execution=execution),
    }
    rows = [
        TrainedCheckpoint(**scratch.load(scratch_name(seed, step))[1], **common)
        for seed, steps in kept.items()
        for step in steps
    ]
    write_table(path, rows)
