from types import SimpleNamespace

import pooch.core
import pytest

from datasets.fetch.publisher import Publisher


@pytest.fixture
def publisher(monkeypatch):
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))
    server = Publisher()
    yield server
    server.closing.set()
    server.server.shutdown()
    server.server.server_close()
