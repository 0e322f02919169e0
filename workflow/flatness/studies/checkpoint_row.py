"""The row that the `measure` command writes."""

from pydantic import create_model

from flatness.records.tables import Provenance, column
from flatness.studies import words
from flatness.studies.quantity_columns import quantity_columns

CheckpointRow = create_model(
    "CheckpointRow",
    __base__=Provenance,
    __doc__="One checkpoint, measured by the `measure` command.",
    network=(str, column("name of the network")),
    activation=(str, column("its activation; empty for a network without the option")),
    weights=(str, column("file of its weights")),
    prefix=(str, column("prefix of their names in the file; empty for none")),
    dataset=(str, column(words.DATASET)),
    demo=(bool, column(words.DEMO)),
    sampled=(str, column(words.SAMPLED)),
    samples=(int, column("images measured", symbol="n")),
    draw_seed=(int, column("seed of the draw of images")),
    rho=(float, column("noise relative to a weight, average_case_sharpness_sampled", symbol="ρ")),
    pairs=(int, column("pairs ±δ of perturbations behind the average-case sharpness")),
    flags=(str, column("what a reader of the numbers should know")),
    **quantity_columns(),
)
