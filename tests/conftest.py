"""One thread, as in every job: more gain nothing on small tensors and slow a busy machine."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"


def pytest_collection_modifyitems(items):
    """Files that start the workflow take minutes: they come first, so that none begins last."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
