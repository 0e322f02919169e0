"""The verb `machine`: processor, instruction set and cores, on which the last digits depend."""

import os
import platform
from pathlib import Path

#: Environment variables that keep oneDNN, PyTorch's library for convolutions, from newer
#: instructions.
ONEDNN_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def machine() -> None:
    """Prints this machine's processor, instruction set and cores in one line."""
    cores = os.cpu_count() or 1
    print(
        f"{processor()}, instruction set {instruction_set()}, {cores} core{'s' * (cores > 1)}",
        flush=True,
    )


def instruction_set() -> str:
    """The instruction set used for computing here; loads PyTorch, since only PyTorch knows it.

    Returns:
        The set that PyTorch's kernels use, such as AVX512, AVX2 or DEFAULT; after a slash the
        limit for oneDNN, if the environment sets one, such as DEFAULT/SSE41.
    """
    import torch  # imported only when needed: loading it takes seconds

    caps = [os.environ[name].upper() for name in ONEDNN_CAPS if os.environ.get(name)]
    return "/".join([torch.backends.cpu.get_cpu_capability(), *caps[:1]])


def processor() -> str:
    """Name of the processor, as far as the operating system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
