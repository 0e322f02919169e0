"""Requirements of pretrained models: a pinned list, images and weights. Does not import torch."""

from collections.abc import Sequence
from pathlib import Path

from flatness.errors import DataError, UserError

#: Environment variables that tell jobs the sources of pretrained models.
IMAGES_DIR = "FLATNESS_IMAGENET_DIR"
WEIGHTS_DIR = "FLATNESS_VIT_WEIGHTS_DIR"
DOWNLOAD = "FLATNESS_VIT_DOWNLOAD"


def pinned_tags(path: Path) -> list[str]:
    """Reads a pinned list of pretrained models.

    Args:
        path: text file; "# models: 275" states the count, other lines starting with # are
            comments, every other line is one timm tag.

    Returns:
        The tags, in the file's order.

    Raises:
        UserError: no such file, or its count is not the one stated.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); transformers.pretrained.models_file names "
            "a list of timm tags, one per line"
        ) from error
    tags = [line for line in lines if line and not line.startswith("#")]
    if f"# models: {len(tags)}" not in lines:
        raise UserError(
            f"{path}: lists {len(tags)} models and does not say so; correct its line '# models: …'"
        )
    return tags


def require_pretrained(
    models: Sequence[str], images_dir: str | None, weights_dir: str | None, download: bool
) -> None:
    """Refuses to start pretrained models without their images or weights.

    Args:
        models: tags of the models that are to run.
        images_dir: ImageNet's validation folder.
        weights_dir: folder of `<model>.safetensors`; None takes the hub.
        download: whether weights may be downloaded from the hub.

    Raises:
        DataError: images or weights are missing; says where to put them, and which models would
            run.
    """
    missing = _missing_images(images_dir) + _missing_weights(models, weights_dir, download)
    if missing:
        names = ", ".join(models)
        raise DataError(
            "transformers: "
            + "; ".join(missing)
            + f"; then these would run ({len(models)}): {names}"
        )


def _missing_images(images_dir: str | None) -> list[str]:
    wanted = (
        "put ImageNet's validation images there, one folder a class named by its WordNet id "
        "(n01440764, …), or name another folder in transformers.pretrained.images_dir"
    )
    if images_dir is None:
        return ["transformers.pretrained.images_dir is not set: name a folder and " + wanted]
    if not Path(images_dir).is_dir():
        return [f"{images_dir}: no such folder: {wanted}"]
    classes = sum(path.is_dir() for path in Path(images_dir).iterdir())
    if classes != 1000:
        return [f"{images_dir}: {classes} class folders, ImageNet has 1000: {wanted}"]
    return []


def _missing_weights(models: Sequence[str], weights_dir: str | None, download: bool) -> list[str]:
    if weights_dir is None:
        if download:
            return []
        return [
            "no weights: put each model's into a folder as <model>.safetensors and name it in "
            "transformers.pretrained.weights_dir, or set transformers.pretrained.download to true"
        ]
    absent = [m for m in models if not (Path(weights_dir) / f"{m}.safetensors").is_file()]
    if not absent:
        return []
    return [
        f"{weights_dir}: lacks the weights of {len(absent)} of {len(models)} models: put there "
        + ", ".join(f"{name}.safetensors" for name in absent)
    ]
