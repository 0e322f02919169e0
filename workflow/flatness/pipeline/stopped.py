"""The verb `stopped`: reports a job that a signal ended.

The shell of every job calls it (`workflow/rules/common.smk`), since the job itself no longer can.
"""

import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

#: A shell's exit status is this plus the signal's number.
SIGNALLED = 128
#: Common signals, and advice for each.
FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGABRT", "SIGFPE")
FAULT = (
    "a fault in compiled code: report it with the output of `python -m flatness machine`, and try "
    "`export ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41` before the same command"
)
ADVICE = dict.fromkeys(FAULTS, FAULT) | {
    "SIGKILL": "mostly for want of memory: see `dmesg`, and run fewer jobs at a time with "
    "`snakemake --cores 1`",
    "SIGXCPU": "its time was used up: raise the limit",
}
#: Where a rule's command sends its messages.
LOG = re.compile(r"(?:\btee|>) ([^\s>&]\S*)")
OTHER = "somebody, or a limit of the system, asked it to end"


def stopped(
    status: Annotated[int, typer.Argument(help="exit status of the job's shell")],
) -> None:
    """Reports in one line the job that a signal ended; reads its command from standard input."""
    command = sys.stdin.read()
    log = LOG.search(command)
    path = Path(log.group(1)) if log else None
    line = f"\n{explanation(status, command, path)}\n"  # a bar may have begun the line above
    sys.stderr.write(line)
    if path and path.parent.is_dir():
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


def explanation(status: int, command: str, log: Path | None) -> str:
    """One line about a job that a signal ended.

    Args:
        status: exit status of its shell: 128 and the signal's number.
        command: what it ran.
        log: file of its messages, if it has one.

    Returns:
        The job, the signal, what the job was doing, and advice.
    """
    verb = re.search(r"-m flatness (\S+)", command)
    name = verb.group(1) if verb else " ".join(command.split()[:3])
    job = f"{name} ({log})" if log else name
    try:
        found = signal.Signals(status - SIGNALLED).name
    except ValueError:
        found = f"signal {status - SIGNALLED}"
    said = _last_line(log)
    at = f"at “{said}”" if said else "before it said anything"
    return f"error: {job}: ended by {found} {at}: {ADVICE.get(found, OTHER)}"


def _last_line(log: Path | None) -> str:
    """The last message of a job, such as the state of a progress bar; empty if there is none."""
    if log is None or not log.exists():
        return ""
    lines = re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
