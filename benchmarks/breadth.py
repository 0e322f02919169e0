"""Measures architectures of timm and torchvision, and holds them against the plain route.

`python -m benchmarks.breadth` writes docs/breadth.md: timm's test models and the smallest network
of each family of torchvision, with random weights of seed 0 and 5 outputs, in float64 on 2 images.
The plain route is one `autograd.grad` per output and sample, the sample beside a copy of itself,
without anything of `flatness`.
"""

import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

import flatness
from flatness.errors import UserError
from flatness.records.files import atomic_path

PAGE = Path("docs/breadth.md")
MARKS = "<!-- measured -->", "<!-- /measured -->"
OUTPUTS, SAMPLES = 5, 2
#: Sides of images, if a network permits it.
SIDE = 64
#: Largest relative difference from the plain route that counts as equal.
EQUAL = 1e-9


@dataclass(frozen=True)
class Row:
    """A model's verdict: values and their difference from the plain route, or a reason."""

    source: str
    name: str
    side: int
    verdict: str
    seconds: float = 0.0


def models() -> Iterator[tuple[str, str, int]]:
    """Where each model comes from, its name, and the side of its images."""
    for name in timm.list_models("test_*"):
        yield "timm", name, timm.get_pretrained_cfg(name).input_size[-1]
    smallest: dict[str, tuple[int, str, int]] = {}
    for name in list_models(module=torchvision.models):
        meta = get_model_weights(name).DEFAULT.meta
        entry = meta["num_params"], name, meta["min_size"][0]
        family = get_model_builder(name).__module__
        smallest[family] = min(smallest.get(family, entry), entry)
    for _, name, least in smallest.values():
        yield "torchvision", name, max(SIDE, least)


def made(source: str, name: str) -> nn.Module:
    """The model with random weights, in evaluation mode and float64."""
    torch.manual_seed(0)
    if source == "timm":
        model = timm.create_model(name, num_classes=OUTPUTS)
    else:
        auxiliary = {"init_weights": True} if name in {"googlenet", "inception_v3"} else {}
        model = get_model(name, weights=None, num_classes=OUTPUTS, **auxiliary)
    for layer in model.modules():
        # torchvision's ViT starts with a head of zeros, behind which no input has a gradient
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            layer.reset_parameters()
    return model.double().eval()


def plainly(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """S and MLS by their definitions."""
    parameters = list(model.parameters())
    squares, slopes = 0.0, 0.0
    for image in images.split(1):
        x = image.clone().requires_grad_()
        jacobian = []
        for output in model(torch.cat([x, x]))[0]:
            by_x, *found = torch.autograd.grad(
                output, [x, *parameters], retain_graph=True, allow_unused=True
            )
            jacobian.append(by_x.flatten())
            squares += sum(float(g.square().sum()) for g in found if g is not None)
        slopes += float(torch.linalg.matrix_norm(torch.stack(jacobian), 2))
    return squares / len(images), slopes / len(images)


def tried(source: str, name: str, side: int) -> Row:
    """Measures one model."""
    model = made(source, name)
    images = torch.randn(SAMPLES, 3, side, side, dtype=torch.float64)
    start = time.process_time()
    try:
        found = flatness.measure(model, images, quantities=["sharpness", "mls"])
    except UserError as error:
        return Row(source, name, side, f"refused: {error}")
    seconds = time.process_time() - start
    values = found["sharpness"].value, found["mls"].value
    pairs = zip(values, plainly(model, images), strict=True)
    gap = max(abs(ours - plain) / plain for ours, plain in pairs)
    verdict = f"S {values[0]:.6g}, MLS {values[1]:.6g}"
    if gap > EQUAL:
        verdict = f"**wrong by {gap:.1e}**: {verdict}"
    return Row(source, name, side, verdict, seconds)


def page_with(rows: Sequence[Row]) -> str:
    """The page with its table made anew."""
    first, last = MARKS
    lines = ["| from | model | images | verdict | core-seconds |", "|---|---|---|---|--:|"]
    lines += [
        f"| {r.source} | `{r.name}` | {r.side} × {r.side} | {r.verdict} | {r.seconds:.1f} |"
        for r in rows
    ]
    table = "\n".join([first, "", *lines, "", last])
    page = PAGE.read_text(encoding="utf-8")
    return re.sub(f"{first}.*{last}", lambda _: table, page, flags=re.DOTALL)


def main() -> int:
    """Writes the page; returns how many models are measured wrongly."""
    warnings.filterwarnings("ignore")
    rows = []
    for model in models():
        rows.append(tried(*model))
        print(rows[-1], flush=True)
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page_with(rows), encoding="utf-8")
    return sum("wrong" in row.verdict for row in rows)


if __name__ == "__main__":
    sys.exit(main())
