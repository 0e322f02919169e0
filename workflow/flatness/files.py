"""Files that are whole or absent: atomic writes, tensor files, resumable scratch state."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flatness.errors import DataError
from flatness.frozen import canonical_json, content_hash  # noqa: F401


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its name on success and vanishes on failure.

    Args:
        path: the file to write; its folder is created.

    Yields:
        The path to write to.

    Raises:
        DataError: the operating system refused (disk full, no permission); names the file.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}; free space or fix the "
            "permissions of its folder and run again"
        ) from error
    except SafetensorError as error:
        raise DataError(f"{path}: cannot be written: {error}; free space and run again") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
        save_file(whole, temporary, metadata={"flatness": text})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_tensors` wrote. No code in the file can run.

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
    """Resumable state of one experiment, kept outside what Snakemake deletes before a rerun.

    A context manager: it holds a lock on the folder, since a job orphaned by a killed Snakemake
    lives on and a rerun would start its twin. State of another experiment is discarded.

    Args:
        folder: where the state lives; created.
        experiment: hash of all that determines the result.
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
        if not owner.exists() or owner.read_text() != self.experiment:
            for old in self.folder.glob("*.safetensors"):
                old.unlink()
            with atomic_path(owner) as temporary:
                temporary.write_text(self.experiment)
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def save(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replaces the state called `name`, atomically."""
        save_tensors(self.folder / f"{name}.safetensors", tensors, metadata)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state called `name`, or None where there is none or it is damaged.

        State can always be computed again, so a damaged one is dropped rather than reported.
        """
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            return load_tensors(path)
        except DataError:
            path.unlink()
            return None
