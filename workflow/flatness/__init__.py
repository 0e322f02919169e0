"""Sharpness of the loss and compression of representations: measures, bounds, two replications.

The names in `__all__` are stable. Each is imported at its first use, so that `import flatness` is
fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatness.measures.certified import certified_sharpness
    from flatness.measures.loss_hessian import hessian
    from flatness.measures.measure import measure
    from flatness.measures.quantities import QUANTITIES
    from flatness.measures.worst_case_ball import worst_case_sharpness
    from flatness.watching import watch

__version__ = "0.1.0"
__all__ = [
    "QUANTITIES",
    "__version__",
    "certified_sharpness",
    "hessian",
    "measure",
    "watch",
    "worst_case_sharpness",
]

_HOMES = {
    "QUANTITIES": "flatness.measures.quantities",
    "certified_sharpness": "flatness.measures.certified",
    "hessian": "flatness.measures.loss_hessian",
    "measure": "flatness.measures.measure",
    "watch": "flatness.watching",
    "worst_case_sharpness": "flatness.measures.worst_case_ball",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flatness' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
