"""The row that the `measure` command writes."""

from pydantic import create_model

from flatness.records.tables import Provenance, column
from flatness.studies.quantity_columns import quantity_columns

CheckpointRow = create_model(
    "CheckpointRow",
    __base__=Provenance,
    __doc__="One checkpoint, measured by the `measure` command.",
    model=(str, column("name of the network")),
    activation=(str, column("its activation; empty for a network without the option")),
    weights=(str, column("file of its weights")),
    prefix=(str, column("prefix of their names in the file; empty for none")),
    dataset=(str, column("name of the data set")),
    demo=(bool, column("whether the data set is a stand-in made for the demo")),
    part=(str, column("images measured: train or test")),
    samples=(int, column("images measured", symbol="n")),
    seed=(int, column("seed of the draw of images")),
    rho=(float, column("noise relative to a weight, adaptive_sharpness_sampled", symbol="ρ")),
    pairs=(int, column("pairs ±δ of perturbations, adaptive_sharpness_sampled")),
    flags=(str, column("what a reader of the numbers should know")),
    **quantity_columns(),
)
