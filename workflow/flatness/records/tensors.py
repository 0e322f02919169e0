"""Tensor files, and resumable scratch state. There are no pickles, so no file can run code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flatness.errors import DataError
from flatness.records.files import atomic_path


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes tensors and JSON metadata to a safetensors file, atomically.

    Args:
        path: the file to write.
        tensors: name to tensor, any shapes; made contiguous and moved to the CPU.
        metadata: anything JSON can hold.

    Raises:
        DataError: the file cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        text = json.dumps(metadata, sort_keys=True)
        try:
            save_file(whole, temporary, metadata={"flatness": text})
        except SafetensorError as error:  # how safetensors reports a full disk
            raise DataError(
                f"{path}: cannot be written: {error}; free space and run again"
            ) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file written by `save_tensors`. No code in the file can run.

    Args:
        path: a safetensors file; one written elsewhere has empty metadata.

    Returns:
        Tensors by name, and the metadata.

    Raises:
        DataError: the file is missing, unreadable or damaged; names it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("flatness", "{}"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; run the step that makes it") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: damaged or not a safetensors file ({error}); delete it and run again"
        ) from error
    return tensors, metadata


class Scratch:
    """Resumable state of one experiment, outside of what Snakemake deletes before a rerun.

    A context manager that locks the folder: a job orphaned by a killed Snakemake keeps running, and
    a rerun would start it a second time. State of another experiment is discarded.

    Args:
        folder: folder of the state; created if missing.
        experiment: hash of everything that determines the result.
    """

    def __init__(self, folder: Path, experiment: str) -> None:
        self.folder = Path(folder)
        self.experiment = experiment
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / "lock")
            self._lock.acquire()
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot keep state here: {error.strerror or error}"
            ) from error
        owner = self.folder / "experiment"
        if not owner.exists() or owner.read_text(encoding="utf-8") != self.experiment:
            for old in self.folder.glob("*.safetensors"):
                old.unlink()
            with atomic_path(owner) as temporary:
                temporary.write_text(self.experiment, encoding="utf-8")
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def save(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replaces the state called `name`, atomically."""
        save_tensors(self.folder / f"{name}.safetensors", tensors, metadata)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Reads the state called `name`.

        State can always be computed again, so damaged state is dropped without an error.

        Args:
            name: as given to `save`.

        Returns:
            Tensors and metadata; None where there is no such state or it is damaged.
        """
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            return load_tensors(path)
        except DataError:
            path.unlink()
            return None
