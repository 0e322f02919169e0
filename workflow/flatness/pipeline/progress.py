"""Runs Snakemake with its output in a file, and one progress bar and errors on the terminal."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flatness.terminal import console

STEPS = re.compile(r"^(\d+) of (\d+) steps \(")
#: Prefixes of one-line messages from jobs to users.
ERROR = "error: "
WARNING = "warning: "
#: Snakemake's message about a job ended by a cluster, which the job itself cannot report.
CLUSTER = re.compile(r"SLURM-job '\S+' failed, SLURM status is: '\w+'")
#: Last lines of the log, shown if a run failed and no job said why.
TAIL = 20
#: Seconds between two looks at the log.
PAUSE = 0.2
#: Number of progress lines if there is no terminal for a bar.
PARTS = 10


def run_with_bar(command: Sequence[str], log: Path) -> int:
    """Runs Snakemake; all messages of it and its jobs go to a file.

    The terminal shows how many jobs are done and immediately shows each error or warning of a job.
    Jobs write to the file directly, so they can continue if this process ends.

    Args:
        command: Snakemake and its arguments.
        log: the file to write.

    Returns:
        Snakemake's exit code.

    Raises:
        KeyboardInterrupt: the user ended the run; Snakemake has ended its jobs.
    """
    out = console()
    out.print(f"messages of Snakemake and its jobs: {log}", soft_wrap=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as written,
        log.open(encoding="utf-8", errors="replace") as read,
        subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT) as process,
    ):
        try:
            explained = _follow(_lines(process, read), out)
        except KeyboardInterrupt:
            process.wait()  # it also got the signal and ends its jobs
            raise
    if process.returncode and not explained:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        out.print(*tail, sep="\n", markup=False, soft_wrap=True)
    return process.returncode


def _lines(process: subprocess.Popen, read: TextIO) -> Iterator[str]:
    """Lines as they are written, until the process has ended."""
    begun = ""
    while True:
        ended = process.poll() is not None
        for part in read:
            begun += part
            if begun.endswith("\n"):
                yield begun.rstrip("\n")
                begun = ""
        if ended:
            return
        time.sleep(PAUSE)


def _follow(lines: Iterator[str], out: Console) -> bool:
    """Shows jobs done, errors and warnings.

    Args:
        lines: of Snakemake and its jobs.
        out: where to print.

    Returns:
        Whether there was an error.
    """
    remarks, shown = set(), 0
    bar = Progress(
        TextColumn("{task.completed:g} of {task.total:g} jobs"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left about"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        task = bar.add_task("jobs", total=None, visible=False)
        for line in lines:
            if ended := CLUSTER.search(line):
                line = f"{ERROR}{ended[0]}; the run's log names the job's"
            if found := STEPS.match(line):
                done, total = map(int, found.groups())
                bar.update(task, completed=done, total=total, visible=True)
                if not out.is_terminal and PARTS * done // total > shown:
                    shown = PARTS * done // total
                    out.print(f"{done} of {total} jobs done")
            elif line.startswith((ERROR, WARNING)) and line not in remarks:  # logs repeat errors
                remarks.add(line)
                out.print(line, markup=False, soft_wrap=True)
    return any(line.startswith(ERROR) for line in remarks)
