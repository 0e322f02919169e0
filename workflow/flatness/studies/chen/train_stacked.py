r"""Training of the compression study on a GPU: all models of a family together.

Weights, rows and files equal those of the loop (`train`) up to rounding; only that a loss is no
longer finite is noticed at every 1,000th step, not at every 100th. The verb also runs without
Snakemake: in a checkout, with `workflow` in `PYTHONPATH` and this package's requirements,

    experiment=$(python -c "
    from pathlib import Path
    from flatness.studies.chen.stacked_config import stacked_training
    from flatness.records.frozen import canonical_json
    from flatness.pipeline.run import load_config
    study = load_config(Path('config/paper.yaml')).chen
    print(canonical_json(stacked_training(study, 'mlp_relu', 'cuda')))")
    python -m flatness fetch --dataset fashion_mnist --output data/fashion_mnist.safetensors
    python -m flatness train-chen-stacked --experiment "$experiment" \
        --data data/fashion_mnist.safetensors --scratch scratch/mlp_relu \
        --checkpoints results/paper/checkpoints/chen/mlp_relu

After a kill, the same command resumes it.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from flatness.errors import UserError
from flatness.records.checkpoints import checkpoint_name, save_checkpoints
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.chen.config import GridTraining
from flatness.studies.chen.crossings import Crossings
from flatness.studies.chen.images import Images, build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.stack import Stack
from flatness.studies.chen.stacked_config import StackedTraining, StackPart
from flatness.studies.chen.train import Trainer, crosses, evaluate, scratch_name

#: Steps between two checks of the losses; each check makes the GPU wait.
STRIDE = 1000
#: Seconds of training that may be lost by a kill; no effect on results.
SAVE_SECONDS = 30.0


def train_stack(
    experiment: Annotated[str, typer.Option(help="stacked training slice, as JSON")],
    data: Annotated[Path, typer.Option(help="normalised data file")],
    scratch: Annotated[Path, typer.Option(help="folder of the resumable state")],
    checkpoints: Annotated[
        Path,
        typer.Option(
            help="the family's folder: SETTING/BLOCK.safetensors (weights that are compared), "
            ".trajectory.safetensors (at other steps) and .csv are written there"
        ),
    ],
) -> None:
    """Trains all models of a family together; resumes after a kill."""
    chosen = StackedTraining.model_validate_json(experiment)
    if chosen.shared.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device cuda: torch finds no GPU here; set `device: cpu` in the config, and no "
            "`train_on: cuda`"
        )
    # float32 as on the CPU, and the same bytes when run again
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    images = load_images(data, chosen.shared)
    with Scratch(scratch, content_hash(chosen)) as state:
        kept = train_members(chosen, images, state)
        for part in tqdm(chosen.parts, desc="writing", unit="block", mininterval=2):
            folder = checkpoints / part.training.setting.name
            write_part(chosen, part, kept, images, state, folder)
        for file in state.folder.glob("*.safetensors"):
            file.unlink()


@dataclass(frozen=True)
class Member:
    """One model of the stack, and the loop's record of it.

    Attributes:
        part: what is trained.
        seed: of initial weights and data order.
        trainer: its network, the step it has reached and whether its loss is finite.
        crossings: what it has still to reach.
        looks: the steps at which it looks whether it has.
    """

    part: GridTraining
    seed: int
    trainer: Trainer
    crossings: Crossings
    looks: range

    @property
    def last(self) -> int:
        """Its last step."""
        return self.part.steps[-1]

    @property
    def kept(self) -> list[int]:
        """The steps at which its weights are kept, ascending, as far as they are known."""
        return sorted({*self.part.steps, *self.crossings.kept})

    def checkpoint(self, step: int) -> str:
        """Name of one of its checkpoints in the scratch folder."""
        return member_checkpoint(self.part, self.seed, step)


def train_members(
    experiment: StackedTraining, images: Images, scratch: Scratch
) -> dict[tuple[str, int], list[int]]:
    """Trains the stack, or the rest of it, and leaves all checkpoints in the scratch folder.

    A model leaves the stack after its last step. One whose loss is no longer finite stays, without
    affecting the others; its remaining checkpoints contain no weights, but the reason.

    Args:
        experiment: what to train.
        images: to train on and to evaluate on.
        scratch: where state and checkpoints (`Member.checkpoint`) are kept.

    Returns:
        By setting and seed, the steps at which weights are kept.
    """
    members = [member_of(part, seed, images) for part, seed in experiment.members()]
    stack = Stack(
        [member.trainer.model for member in members],
        [member.part.setting for member in members],
        [member.seed for member in members],
        images.train,
    )
    looked = resume(members, stack, scratch)
    clock = time.monotonic()
    last = max(member.last for member in members)
    stops = {stop for member in members for stop in (*member.part.steps, *member.looks)}
    label = f"{experiment.shared.family}, {len(members)} models"
    with tqdm(desc=label, total=last, initial=max(looked, 0), unit="step", mininterval=2) as bar:
        for stop in sorted({*range(0, last, STRIDE), *stops}):
            if stop <= looked:
                continue
            bar.update(stop - stack.step)
            present = going(members, stack.step)
            note([members[place] for place in present], stack.advance(stop)[present], stop)
            finite = [member for member in members if member.trainer.diverged_at is None]
            bar.set_postfix_str(f"{len(finite)} not diverged", refresh=False)
            for place in present:
                keep_checkpoint(members[place], images, scratch)
            stack.keep(going(members, stop))
            if stop == last or time.monotonic() - clock > SAVE_SECONDS:
                state = {
                    "step": stop,
                    "diverged_at": [member.trainer.diverged_at for member in members],
                    "crossings": [member.crossings.state() for member in members],
                }
                scratch.save("stack", stack.buffers(), state)
                clock = time.monotonic()
    return {(member.part.setting.name, member.seed): member.kept for member in members}


def member_of(part: GridTraining, seed: int, images: Images) -> Member:
    """A model at step 0, with everything still to reach."""
    trainer = Trainer(build_network(part, seed), part.setting, images.train, seed)
    crossings = Crossings(part.losses, len(images.train), part.setting.batch_size)
    return Member(part, seed, trainer, crossings, crossings.looks(part.steps[-1]))


def resume(members: Sequence[Member], stack: Stack, scratch: Scratch) -> int:
    """Restores the saved state, unless a checkpoint from before it is damaged.

    Args:
        members: the models, changed.
        stack: their weights, changed.
        scratch: where state and checkpoints are kept.

    Returns:
        The step it had reached; -1 if training starts again.
    """
    saved = scratch.load("stack")
    if saved is None:
        return -1
    tensors, metadata = saved
    for member, state in zip(members, metadata["crossings"], strict=True):
        passed = [s for s in (*member.part.steps, *state["kept"]) if s <= metadata["step"]]
        if any(scratch.load(member.checkpoint(step)) is None for step in passed):
            return -1
    stack.keep(going(members, metadata["step"]))
    stack.restore(tensors, metadata["step"])
    for member, diverged_at, state in zip(
        members, metadata["diverged_at"], metadata["crossings"], strict=True
    ):
        member.trainer.step, member.trainer.diverged_at = stack.step, diverged_at
        member.crossings.restore(state)
    return stack.step


def going(members: Sequence[Member], step: int) -> list[int]:
    """Places of the models that have steps to take after a step; after the last, as before it."""
    end = max(member.last for member in members)
    return [
        place for place, member in enumerate(members) if member.last > step or member.last == end
    ]


def note(members: Sequence[Member], losses: Tensor, step: int) -> None:
    """Updates each model's record: the step reached, and whether its loss is still finite."""
    for member, finite in zip(members, torch.isfinite(losses).tolist(), strict=True):
        member.trainer.step = step
        if step > 0 and member.trainer.diverged_at is None and not finite:
            member.trainer.diverged_at = step


def keep_checkpoint(member: Member, images: Images, scratch: Scratch) -> None:
    """Evaluates and saves a model if its step is scheduled, or if it reaches something there."""
    trainer = member.trainer
    scheduled = trainer.step in member.part.steps
    looked_at = scheduled or trainer.step in member.looks
    found = looked_at and crosses(trainer, images, member.crossings)
    if scheduled or found:
        columns = evaluate(trainer, images)
        weights = {} if columns["diverged"] else dict(trainer.model.named_parameters())
        scratch.save(member.checkpoint(trainer.step), weights, columns)


def member_checkpoint(part: GridTraining, seed: int, step: int) -> str:
    """Name of a model's checkpoint in the scratch folder."""
    return f"{part.setting.name}_{scratch_name(seed, step)}"


def write_part(
    experiment: StackedTraining,
    part: StackPart,
    kept: Mapping[tuple[str, int], Sequence[int]],
    images: Images,
    scratch: Scratch,
    folder: Path,
) -> None:
    """Writes the files that the loop would have written for one setting and block.

    Args:
        experiment: the whole stack, whose hash the rows carry.
        part: what the loop would train in one job.
        kept: by setting and seed, the steps at which weights are kept.
        images: of the family.
        scratch: where the checkpoints are.
        folder: of the files, which the block names.
    """
    name = content_hash(experiment)
    own = part.training
    common = {
        "family": own.family,
        "setting": own.setting.name,
        "dataset": own.dataset,
        "demo": images.demo,
        "train_size": len(images.train),
        **provenance(name, device=own.device, execution=experiment.execution),
    }
    rows: list[TrainedCheckpoint] = []
    final: dict[str, dict[str, Tensor]] = {}
    others: dict[str, dict[str, Tensor]] = {}
    for _, seed in part.members():
        for step in kept[own.setting.name, seed]:
            weights, columns = scratch.load(member_checkpoint(own, seed, step))
            rows.append(TrainedCheckpoint(**columns, **common))
            gathered = final if step == own.end else others
            gathered[checkpoint_name(seed, step)] = weights
    described = {"experiment": name}
    save_checkpoints(folder / f"{part.block}.safetensors", final, described)
    save_checkpoints(folder / f"{part.block}.trajectory.safetensors", others, described)
    write_table(folder / f"{part.block}.csv", rows)
