"""Optional dependencies: which extra of this package installs a missing module."""

import re
import shutil
from importlib.metadata import PackageNotFoundError, requires

from flatness.errors import UserError

#: Modules whose distribution has another name.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def explain(error: ModuleNotFoundError) -> UserError:
    """Says what to install.

    Args:
        error: of an import.

    Returns:
        The error to show.

    Raises:
        error: no extra installs the module, so the fault is another.
    """
    module = (error.name or "").partition(".")[0]
    extra = extra_of(module)
    if extra is None:
        raise error
    return UserError(f"{module} is not installed; pip install 'flatness[{extra}]'")


def program(name: str) -> str:
    """The name of a program of the extra `workflow`, after checking that it exists.

    Args:
        name: such as "snakemake".

    Returns:
        The name.

    Raises:
        UserError: there is no such program; names the extra.
    """
    if shutil.which(name) is None:
        raise UserError(
            f"no program {name} here; pip install 'flatness[workflow]', or "
            "activate the environment that has it"
        )
    return name


def extra_of(module: str) -> str | None:
    """The extra that installs a module, from this package's metadata; None if none does."""
    try:
        requirements = requires("flatness") or []
    except PackageNotFoundError:
        return None
    wanted = _normalised(DISTRIBUTIONS.get(module, module))
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*\bextra == ['\"](\w+)['\"]", requirement)
        if found and _normalised(found[1]) == wanted != "flatness":  # an extra may include another
            return found[2]
    return None


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
