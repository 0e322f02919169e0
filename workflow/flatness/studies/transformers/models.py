"""Models of timm: built from exact arguments, or pretrained from the hub or a local folder."""

from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import typer
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from timm.layers import set_fused_attn
from timm.models import get_pretrained_cfg
from torch import nn

from flatness.errors import DataError, UserError
from flatness.records.files import atomic_path
from flatness.studies.transformers.config import VitModel

# Read when a layer is built: torch.func.jvp has no rule for the fused attention kernels.
set_fused_attn(False)


def build(model: VitModel, classes: int, seed: int) -> nn.Module:
    """Builds a model with fresh weights.

    Args:
        model: constructor and its arguments; lists become tuples.
        classes: number of outputs.
        seed: of the initial weights; the global generator is left as it was.

    Returns:
        The module.

    Raises:
        UserError: timm does not know the constructor or refuses an argument.
    """
    arguments = {name: _as_tuple(value) for name, value in model.arguments.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = timm.create_model(model.constructor, num_classes=classes, **arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise UserError(
                f"transformers model {model.name}: timm cannot build {model.constructor} with "
                f"{arguments}: {error}"
            ) from error
    # Convolutions of these models are up to twice as fast in this layout.
    return module.to(memory_format=torch.channels_last)


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def load_pretrained(model: VitModel, weights_dir: Path | None) -> nn.Module:
    """Builds a pretrained model.

    Args:
        model: its name is a timm tag.
        weights_dir: folder of `<model>.safetensors`, in timm's own layout; None takes the hub.

    Returns:
        The module, in evaluation mode.

    Raises:
        DataError: the weights are not available or do not fit; names the file or the model.
    """
    overlay: dict[str, Any] = {}
    if weights_dir is not None:
        overlay = {"file": str(weights_dir / f"{model.name}.safetensors"), "custom_load": False}
    try:
        module = timm.create_model(
            model.constructor, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise DataError(
            f"{model.name}: the hub gave no weights ({error}); try again, or put "
            f"{model.name}.safetensors into a folder named by transformers.pretrained.weights_dir"
        ) from error
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(
            f"{overlay.get('file', model.name)}: not the weights of {model.name} ({error}); "
            "fetch the file again"
        ) from error
    return module.eval().to(memory_format=torch.channels_last)


def family(model: VitModel) -> str:
    """The model's family: timm's name of the module that defines its constructor."""
    if not timm.is_model(model.constructor):
        raise UserError(f"transformers model {model.name}: timm knows no {model.constructor}")
    module = timm.model_entrypoint(model.constructor).__module__.rpartition(".")[2]
    return module.replace("vision_transformer", "vit")


def pretrained_tags(pattern: str, largest_input: int) -> list[str]:
    """The ImageNet models that the installed timm has weights for.

    Args:
        pattern: of the name, as "*vit*".
        largest_input: pixels of the wider side, at most.

    Returns:
        Tags, sorted.
    """
    tags = []
    for tag in timm.list_models(pattern, pretrained=True):
        settings = get_pretrained_cfg(tag)
        if settings.num_classes == 1000 and max(settings.input_size[1:]) <= largest_input:
            tags.append(tag)
    return sorted(tags)


def pin_models(
    output: Annotated[Path, typer.Option(help="list to write")],
    pattern: Annotated[str, typer.Option(help="of the models' names")] = "*vit*",
    largest_input: Annotated[int, typer.Option(help="pixels, at most")] = 384,
) -> None:
    """Writes the list of pretrained ImageNet models that the installed timm has."""
    tags = pretrained_tags(pattern, largest_input)
    header = (
        f"# models: {len(tags)}\n"
        f"# ImageNet models of timm {timm.__version__} with weights, names like {pattern}, 1000\n"
        f"# classes, input at most {largest_input} pixels wide. The paper counts 181 with *vit*.\n"
        f"# Written by: python -m flatness pin-transformers --output config/vit_models.txt\n"
    )
    with atomic_path(output) as temporary:
        temporary.write_text(header + "\n".join(tags) + "\n", encoding="utf-8")
