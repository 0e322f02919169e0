"""The `measure` command: every quantity of one checkpoint, as a printed table and a row."""

import hashlib
from inspect import signature
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import one_hot

from flatness.datasets.normalised import load, scale_pixels
from flatness.errors import DataError, UserError
from flatness.measures.measure import QUANTITIES, Measurements, measure
from flatness.networks import NAMES, OUTPUTS
from flatness.networks.build import build, constructor
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import load_tensors
from flatness.studies.checkpoint_row import CheckpointRow
from flatness.terminal import console

#: Sampling of `average_case_sharpness_sampled`: the defaults of `measure`.
SAMPLING = {name: signature(measure).parameters[name].default for name in ("rho", "pairs")}


def measure_checkpoint(
    model: Annotated[str, typer.Option(help=" or ".join(NAMES))],
    weights: Annotated[Path, typer.Option(help="safetensors file of the weights")],
    data: Annotated[Path, typer.Option(help="image data set written by fetch")],
    output: Annotated[Path | None, typer.Option(help="table to write, of one row")] = None,
    samples: Annotated[int, typer.Option(help="images to measure", min=1)] = 200,
    part: Annotated[str, typer.Option(help="train or test")] = "train",
    seed: Annotated[int, typer.Option(help="of the draw of images", min=0)] = 0,
    prefix: Annotated[str, typer.Option(help="such as seed0/step100/, in a file of many")] = "",
    activation: Annotated[
        str | None, typer.Option(help="of the mlp: relu (unless given) or tanh")
    ] = None,
) -> None:
    """Measures sharpness, compression and their bounds on one checkpoint, in float64."""
    options = {} if activation is None else {"activation": activation}
    network = load_network(build(model, seed=0, **options).double(), weights, prefix).eval()
    dataset = load(data)
    inputs, labels = draw_images(data, dataset.tensors, part, samples, seed)
    _check_fit(network, inputs, labels, model, data)
    found = measure(network, inputs, one_hot(labels, OUTPUTS).double(), **SAMPLING)
    print_table(found, f"{model}, {samples} {part} images of {dataset.name}")
    if output is None:
        return
    options = (constructor(model).__kwdefaults__ or {}) | options
    asked = {"network": model, "activation": options.get("activation", ""), "prefix": prefix}
    asked |= {
        "dataset": dataset.name,
        "sampled": part,
        "samples": samples,
        "draw_seed": seed,
    } | SAMPLING
    contents = {"weights": _checksum(weights), "data": _checksum(data)}
    values = {name: estimate.value for name, estimate in found.items()}
    values |= {f"{name}_se": estimate.standard_error for name, estimate in found.items()}
    row = provenance(content_hash(asked | contents)) | asked | values
    row |= {"weights": str(weights), "demo": dataset.demo, "flags": "; ".join(found.flags)}
    write_table(output, [CheckpointRow(**row)])


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_network(network: nn.Module, path: Path, prefix: str) -> nn.Module:
    """Loads a file's weights into a network.

    Args:
        network: of the file's architecture, in the type for the weights.
        path: safetensors file.
        prefix: of the weights' names; tensors without it are ignored.

    Returns:
        The network.

    Raises:
        DataError: there is no such safetensors file; or a weight is missing, unknown, of another
            shape, or not floating-point.
    """
    try:
        tensors = load_tensors(path)[0]
    except DataError as error:  # whose message is for files that the workflow can make again
        fault = "damaged or not a safetensors file" if path.exists() else "no such file"
        raise DataError(
            f"{path}: {fault}; --weights names a file that "
            "safetensors.torch.save_file(model.state_dict(), …) wrote"
        ) from error
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | found.keys()):
        shapes = [tuple(t[name].shape) if name in t else "missing" for t in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{path}: weight {prefix}{name} is {shapes[0]} in the file and {shapes[1]} in the "
                "network; check --model and --prefix"
            )
        if found[name].is_floating_point() != wanted[name].is_floating_point():
            raise DataError(
                f"{path}: weight {prefix}{name} is {found[name].dtype} in the file and "
                f"{wanted[name].dtype} in the network; save weights as floating-point numbers"
            )
    network.load_state_dict(found)
    return network


def draw_images(
    path: Path, tensors: dict[str, Tensor], part: str, samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draws images without replacement.

    Args:
        path: of the data set, for messages.
        tensors: of the data set.
        part: "train" or "test".
        samples: how many.
        seed: of the draw.

    Returns:
        Inputs (n, C, H, W) in [0, 1], float64; labels (n,).

    Raises:
        UserError: no images, no such part, or fewer of them than asked for.
    """
    if f"{part}_inputs" not in tensors:
        raise UserError(f"{path}: has no {part} images; --part is train or test, --data images")
    images, labels = tensors[f"{part}_inputs"], tensors[f"{part}_targets"]
    if samples > len(images):
        raise UserError(f"--samples: {samples} asked for, {path} has {len(images)} {part} images")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:samples]
    return scale_pixels(images[order], torch.float64), labels[order]


def _check_fit(network: nn.Module, inputs: Tensor, labels: Tensor, model: str, data: Path) -> None:
    try:
        with torch.no_grad():
            network(inputs[:1])
    except RuntimeError as error:
        shape = tuple(inputs.shape[1:])
        raise UserError(f"{model} does not take the images of {data}, of shape {shape}") from error
    if int(labels.max()) >= OUTPUTS:
        raise UserError(f"{data}: label {int(labels.max())}; {model} has {OUTPUTS} outputs")


def print_table(found: Measurements, title: str) -> None:
    """Prints values, standard errors and flags."""
    table = Table(title=title)
    table.add_column("quantity", no_wrap=True)  # a name is copied whole
    for heading in ("value", "± standard error", "unit", "kind"):
        table.add_column(heading, overflow="fold")
    for name, estimate in found.items():
        values = (f"{estimate.value:.6g}", f"{estimate.standard_error:.2g}")
        table.add_row(name, *values, QUANTITIES[name].unit, QUANTITIES[name].kind)
    out = console()
    out.print(table)
    for flag in found.flags:
        out.print(f"note: {flag}", markup=False, soft_wrap=True)
