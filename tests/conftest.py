"""One thread, as in every job; shapes and types of the measures' arguments are checked."""

import os

import jaxtyping
import pytest

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # more gain nothing on small tensors and slow a busy machine

# Before anything imports them. Users pay nothing for these checks, and get the errors that the
# functions raise themselves.
jaxtyping.install_import_hook("flatness.measures", "checked_types.check")


def pytest_collection_modifyitems(items):
    """Files that start the workflow take minutes: they come first, so that none begins last."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture
def as_for_users(monkeypatch):
    """Without the checks of shapes and types: for tests that hand over what these forbid."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
