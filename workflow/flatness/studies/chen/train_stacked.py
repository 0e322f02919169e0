r"""Training of the compression study on a GPU: all models of a family together.

Weights, rows and files equal those of the loop (`train`) up to rounding. The verb also runs without
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
from collections.abc import Sequence
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
        train_members(chosen, images, state)
        for part in tqdm(chosen.parts, desc="writing", unit="block", mininterval=2):
            write_part(chosen, part, images, state, checkpoints / part.training.setting.name)
        for file in state.folder.glob("*.safetensors"):
            file.unlink()


def train_members(experiment: StackedTraining, images: Images, scratch: Scratch) -> None:
    """Trains the stack, or the rest of it, and leaves all checkpoints in the scratch folder.

    A model leaves the stack after its last step. One whose loss is no longer finite stays, without
    affecting the others; its remaining checkpoints contain no weights, but the reason.

    Args:
        experiment: what to train.
        images: to train on and to evaluate on.
        scratch: where state and checkpoints (`member_checkpoint`) are kept.
    """
    members = experiment.members()
    trainers, stack = build_stack(members, images)
    crossings = [
        Crossings(part.losses, len(images.train), part.setting.batch_size) for part, _ in members
    ]
    last = max(part.steps[-1] for part, _ in members)
    looked = resume(members, trainers, crossings, stack, scratch)
    clock = time.monotonic()
    kept = {step for part, _ in members for step in part.steps}
    looks = {
        step
        for crossing, (part, _) in zip(crossings, members, strict=True)
        for step in crossing.looks(part.steps[-1])
    }
    label = f"{experiment.shared.family}, {len(members)} models"
    with tqdm(desc=label, total=last, initial=max(looked, 0), unit="step", mininterval=2) as bar:
        for stop in sorted({*range(0, last, STRIDE), *kept, *looks}):
            if stop <= looked:
                continue
            bar.update(stop - stack.step)
            note(trainers, stack.advance(stop), stop)
            finite = [trainer for trainer in trainers if trainer.diverged_at is None]
            bar.set_postfix_str(f"{len(finite)} not diverged", refresh=False)
            if stop in kept or stop in looks:
                keep_checkpoints(members, trainers, crossings, images, scratch)
            stack.keep(going(members, stop))
            if stop == last or time.monotonic() - clock > SAVE_SECONDS:
                diverged = [trainer.diverged_at for trainer in trainers]
                state = {"step": stop, "diverged_at": diverged}
                state["crossings"] = [crossing.state() for crossing in crossings]
                scratch.save("stack", stack.buffers(), state)
                clock = time.monotonic()


def build_stack(
    members: Sequence[tuple[GridTraining, int]], images: Images
) -> tuple[list[Trainer], Stack]:
    """The models at step 0: the loop's record of each, and the stack of their weights."""
    trainers = [
        Trainer(build_network(part, seed), part.setting, images.train, seed)
        for part, seed in members
    ]
    stack = Stack(
        [trainer.model for trainer in trainers],
        [part.setting for part, _ in members],
        [seed for _, seed in members],
        images.train,
    )
    return trainers, stack


def resume(
    members: Sequence[tuple[GridTraining, int]],
    trainers: Sequence[Trainer],
    crossings: Sequence[Crossings],
    stack: Stack,
    scratch: Scratch,
) -> int:
    """Restores the saved state, unless a checkpoint from before it is damaged.

    Args:
        members: slice and seed of each model.
        trainers: their records, changed.
        crossings: what each has still to reach, changed.
        stack: their weights, changed.
        scratch: where state and checkpoints are kept.

    Returns:
        The step it had reached; -1 if training starts again.
    """
    saved = scratch.load("stack")
    if saved is None:
        return -1
    tensors, metadata = saved
    passed = [
        member_checkpoint(part, seed, step)
        for (part, seed), state in zip(members, metadata["crossings"], strict=True)
        for step in (*part.steps, *state["kept"])
        if step <= metadata["step"]
    ]
    if any(scratch.load(name) is None for name in passed):
        return -1
    stack.keep(going(members, metadata["step"]))
    stack.restore(tensors, metadata["step"])
    for trainer, diverged_at in zip(trainers, metadata["diverged_at"], strict=True):
        trainer.step, trainer.diverged_at = stack.step, diverged_at
    for crossing, state in zip(crossings, metadata["crossings"], strict=True):
        crossing.restore(state)
    return stack.step


def going(members: Sequence[tuple[GridTraining, int]], step: int) -> list[int]:
    """Places of the models that have steps to take after a step; after the last, as before it."""
    lasts = [part.steps[-1] for part, _ in members]
    return [place for place, last in enumerate(lasts) if last > step or last == max(lasts)]


def note(trainers: Sequence[Trainer], losses: Tensor, step: int) -> None:
    """Updates each model's record: the step reached, and whether its loss is still finite."""
    for trainer, finite in zip(trainers, torch.isfinite(losses).tolist(), strict=True):
        trainer.step = step
        if step > 0 and trainer.diverged_at is None and not finite:
            trainer.diverged_at = step


def keep_checkpoints(
    members: Sequence[tuple[GridTraining, int]],
    trainers: Sequence[Trainer],
    crossings: Sequence[Crossings],
    images: Images,
    scratch: Scratch,
) -> None:
    """Evaluates and saves the models for which this step is kept."""
    for (part, seed), trainer, crossing in zip(members, trainers, crossings, strict=True):
        scheduled = trainer.step in part.steps
        looks = crossing.looks(part.steps[-1])
        found = (scheduled or trainer.step in looks) and crosses(trainer, images, crossing)
        if scheduled or found:
            columns = evaluate(trainer, images)
            weights = {} if columns["diverged"] else dict(trainer.model.named_parameters())
            scratch.save(member_checkpoint(part, seed, trainer.step), weights, columns)


def member_checkpoint(part: GridTraining, seed: int, step: int) -> str:
    """Name of a model's checkpoint in the scratch folder."""
    return f"{part.setting.name}_{scratch_name(seed, step)}"


def write_part(
    experiment: StackedTraining,
    part: StackPart,
    images: Images,
    scratch: Scratch,
    folder: Path,
) -> None:
    """Writes the files that the loop would have written for one setting and block.

    Args:
        experiment: the whole stack, whose hash the rows carry.
        part: what the loop would train in one job.
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
    states = scratch.load("stack")[1]["crossings"]
    found = {
        (member.setting.name, seed): state["kept"]
        for (member, seed), state in zip(experiment.members(), states, strict=True)
    }
    for member, seed in part.members():
        for step in sorted({*own.steps, *found[own.setting.name, seed]}):
            weights, columns = scratch.load(member_checkpoint(member, seed, step))
            rows.append(TrainedCheckpoint(**columns, **common))
            gathered = final if step == own.end else others
            gathered[checkpoint_name(seed, step)] = weights
    described = {"experiment": name}
    save_checkpoints(folder / f"{part.block}.safetensors", final, described)
    save_checkpoints(folder / f"{part.block}.trajectory.safetensors", others, described)
    write_table(folder / f"{part.block}.csv", rows)
