"""The verb `take-epfl`: makes a separate block of some models of a trained block."""

from pathlib import Path
from typing import Annotated

import typer

from flatness.errors import UserError
from flatness.records.checkpoints import checkpoint_name, load_checkpoints, save_checkpoints
from flatness.records.frozen import seeds_of
from flatness.records.tables import read_table, write_table
from flatness.studies.epfl.rows import TrainedModel


def take_models(
    checkpoints: Annotated[Path, typer.Option(help="weights written by train-epfl")],
    training: Annotated[Path, typer.Option(help="table written by train-epfl")],
    seeds: Annotated[str, typer.Option(help="first and last seed, such as 0-1")],
    output: Annotated[Path, typer.Option(help="checkpoints to write")],
    table: Annotated[Path, typer.Option(help="table of models to write")],
) -> None:
    """Copies some models of a block, so that a costly measurement runs only on these."""
    wanted = seeds_of(seeds)
    models, metadata = load_checkpoints(checkpoints)
    missing = [seed for seed in wanted if seed not in metadata["seeds"]]
    if missing:
        raise UserError(
            f"{checkpoints}: no model of seed {missing[0]}; take seeds that it contains"
        )
    kept = [metadata["seeds"].index(seed) for seed in wanted]
    chosen = {name: [metadata[name][index] for index in kept] for name in ("seeds", "reasons")}
    rows = read_table(training, TrainedModel)
    rows = rows[rows["seed"].isin(wanted)]
    taken = {name: models[name] for name in map(checkpoint_name, wanted)}
    save_checkpoints(output, taken, metadata | chosen)
    write_table(table, [TrainedModel(**line) for line in rows.to_dict("records")])
