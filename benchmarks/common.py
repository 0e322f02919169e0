"""What benchmarks share: CPU time, and the networks' shapes of inputs."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

SHAPES = {"mlp": (1, 28, 28), "lenet5": (3, 32, 32), "vgg11": (3, 32, 32)}


def timed(work: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """What a call returns, and its CPU seconds."""
    start = time.process_time()
    return work(*arguments), time.process_time() - start


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """CPU seconds of a call."""
    return timed(work, *arguments)[1]
