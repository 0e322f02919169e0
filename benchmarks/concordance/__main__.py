"""Compares all libraries and writes the tables of a page: `python -m benchmarks.concordance PAGE`.

Run in the environment of `make concordance`. A library that is missing, or a value that is off by
more than the stated digits, ends it with 1 and leaves the page as it was. Each value is computed in
a process of its own, forked before anything else was computed, so that its peak of memory is its
own. A short call is made twice and the second is timed, as the first pays for what is loaded late.
"""

import multiprocessing
import platform
import re
import resource
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.common import timed
from benchmarks.concordance.quantities import (
    ERRORS,
    QUANTITIES,
    Case,
    Entry,
    Found,
    cases,
)
from flatness.records.files import atomic_path

try:
    from benchmarks.concordance.faults import faults
    from benchmarks.concordance.libraries import LIBRARIES
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed here; call `make concordance`")

MARKS = "<!-- compared -->", "<!-- /compared -->"
#: CPU seconds from which a call is made once.
LONG = 2.0


@dataclass(frozen=True)
class Measured:
    """An entry, computed.

    Attributes:
        library: whose.
        entry: what was called.
        found: None where it was refused.
        error: the first line of what it raised, if it did.
        seconds: CPU time.
        megabytes: by which memory grew at its peak.
    """

    library: str
    entry: Entry
    found: Found | None
    error: str
    seconds: float
    megabytes: float


def in_a_fork(library: str, entry: Entry) -> Measured:
    """Computes an entry in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        found, error, seconds = None, "", 0.0
        before = peak_megabytes()
        try:
            found, seconds = timed(entry.compute)
            if seconds < LONG:
                found, seconds = timed(entry.compute)
        except Exception as raised:  # any of any library's, to be shown or told
            error = f"{type(raised).__name__}: {str(raised).splitlines()[0]}"
        value = found and (found.value.detach().double().numpy(), found.standard_error)
        sender.send((value, error, seconds, peak_megabytes() - before))

    process = context.Process(target=work)
    process.start()
    value, error, seconds, megabytes = receiver.recv()
    process.join()
    found = value and Found(torch.as_tensor(value[0]), value[1])
    return Measured(library, entry, found, error, seconds, megabytes)


def peak_megabytes() -> float:
    """Most memory of this process since it was forked."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(case: Case) -> Iterator[list[Measured]]:
    """What all libraries find, quantity by quantity."""
    entries = [(name, entry) for name, (_, of) in LIBRARIES.items() for entry in of(case)]
    for quantity in QUANTITIES:
        yield [in_a_fork(name, entry) for name, entry in entries if entry.quantity == quantity]


def reference(rows: list[Measured]) -> Found:
    """The value that the others are held against.

    That of torch.func, else the first that is no estimate, else the mean of the estimates, weighted
    by their accuracy.
    """
    found = [row.found for row in rows if row.found]
    exact = [row for row in rows if row.found and not row.found.standard_error]
    if exact:
        return next((r.found for r in exact if r.library == "torch.func"), exact[0].found)
    weights = torch.tensor([f.standard_error**-2 for f in found])
    values = torch.stack([f.value for f in found])
    return Found((weights * values).sum() / weights.sum())


def judged(row: Measured, right: Found) -> tuple[str, str]:
    """The difference as the table says it, and what is wrong; empty if nothing is."""
    entry = row.entry
    if row.found is None:
        known = bool(entry.refused) and entry.refused in row.error
        return f"ends in: {entry.refused}", "" if known else row.error
    if entry.refused:
        return "", "a known fault is gone: take `refused` off its entry"
    if row.found is right:
        return "reference", ""
    off = float((row.found.value - right.value).abs().max())
    error = row.found.standard_error
    if error:
        wrong = "" if off <= ERRORS * error else f"off by {off / error:.1f} standard errors"
        return f"{off / error:.1f} s.e.", wrong
    relative = off / float(right.value.abs().max())
    digits = entry.digits or QUANTITIES[entry.quantity].digits
    wrong = "" if relative <= 10.0**-digits else f"off by {relative:.1e}, not 1e-{digits}"
    return f"{relative:.0e}" if relative else "0", wrong


def shown(found: Found | None) -> str:
    """A number as it is; of several the mean, of several columns that of the first."""
    if found is None:
        return ""
    if found.value.dim():
        first = found.value if found.value.dim() == 1 else found.value[:, 0]
        return f"mean {float(first.mean()):.8g}"
    value = f"{float(found.value):.8g}"
    return f"{value} ± {found.standard_error:.2g}" if found.standard_error else value


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{1e3 * value:.0f} ms"


def stated(quantity: str) -> str:
    """Definition and digits."""
    found = QUANTITIES[quantity]
    return f"{found.words}; {found.digits} digits"


def compared(case: Case, wrong: list[str]) -> Iterator[str]:
    """The table of a model; what disagrees is added to `wrong`."""
    yield f"### {case.about[0].upper()}{case.about[1:]}"
    yield ""
    yield f"n = {len(case.inputs)}, N = {case.outputs}, D = {case.size:,} parameters."
    yield ""
    yield "| quantity | library | call | to ours | value | off by | CPU time | MB |"
    yield "|---|---|---|---|--:|--:|--:|--:|"
    for rows in measured(case):
        right = reference(rows)
        for index, row in enumerate(rows):
            off, problem = judged(row, right)
            if problem:
                wrong.append(f"{case.name}, {row.entry.quantity}, {row.library}: {problem}")
            cells = [
                stated(row.entry.quantity) if index == 0 else "",
                row.library,
                f"`{row.entry.call}`",
                row.entry.factor or "—",
                shown(row.found),
                off,
                "" if row.error else seconds(row.seconds),
                "" if row.error else f"{row.megabytes:.0f}",
            ]
            print(case.name, *cells[1:], sep="  ", flush=True)
            yield f"| {' | '.join(cells)} |"
    yield ""


def faulty(wrong: list[str]) -> Iterator[str]:
    """The table of faults."""
    yield "| library | case | found | right | why |"
    yield "|---|---|--:|--:|---|"
    for fault in faults():
        if abs(fault.found - fault.right) < 1e-6 * abs(fault.right):
            wrong.append(f"{fault.library}: a fault is gone, take it out of `faults`: {fault.case}")
        yield (
            f"| {fault.library} | {fault.case} | {fault.found:.9g} | {fault.right:.9g} | "
            f"{fault.because} |"
        )


def lines(wrong: list[str]) -> Iterator[str]:
    """All that stands between the marks."""
    versions = ", ".join(f"{name} {version(package)}" for name, (package, _) in LIBRARIES.items())
    yield f"{versions}; Python {platform.python_version()}."
    yield ""
    for case in cases():
        yield from compared(case, wrong)
    yield "### Where another library is wrong"
    yield ""
    yield from faulty(wrong)


def main(page: str) -> int:
    """Writes the tables; returns 1 if something disagrees."""
    torch.set_num_threads(1)
    # PyHessian and laplace-torch draw vectors of the default type
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")  # the libraries' own, of each other's ways
    wrong: list[str] = []
    first, last = MARKS
    table = "\n".join([first, "", *lines(wrong), "", last])
    for problem in wrong:
        print(f"error: {problem}", file=sys.stderr)
    if wrong:
        return 1
    text = Path(page).read_text(encoding="utf-8")
    text = re.sub(f"{first}.*{last}", lambda _: table, text, flags=re.DOTALL)
    with atomic_path(Path(page)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
