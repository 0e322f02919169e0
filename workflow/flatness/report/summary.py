"""What a run ends with in the terminal: the ledger, the models left out, where to look."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from flatness.report.claims import CLAIMS, read_claims
from flatness.report.ledger import Outcome, commit_of, decided, evaluate, stands, tally
from flatness.report.left_out import LeftOut, left_out_models
from flatness.terminal import console

STYLES = {
    "reproduced": "green",
    "in sign, not in size": "green",
    "holds": "green",
    "not reproduced": "red",
    "violated": "bold red",
    "inconclusive": "yellow",
    "not run here": "dim",
}


def print_summary(results: Path, claims: Path = CLAIMS) -> None:
    """Prints the ledger of a run, how often each verdict fell, what was left out, where to look.

    Args:
        results: folder of one config, as `results/demo`.
        claims: the claims.
    """
    out = console()
    outcomes = evaluate(read_claims(claims), results, commit_of(claims))
    if any(outcome.verdict != "not run here" for outcome in outcomes):
        out.print(ledger_table(outcomes))
        out.print(holm_line(outcomes))
    out.print(counts_line(outcomes))
    for line in left_out_lines(left_out_models(results)):
        out.print(escape(line))
    figures = sorted(results.glob("figures/*.png"))
    if figures:
        out.print(f"{len(figures)} figures in {results / 'figures'}/", soft_wrap=True)
    if (results / "report.html").exists():
        out.print(f"report: {results / 'report.html'}", soft_wrap=True)


def ledger_table(outcomes: Sequence[Outcome]) -> Table:
    """Lays out claims and checks, one line each; those that were not run here are only counted."""
    demo = " · DEMO DATA" if any(outcome.demo for outcome in outcomes) else ""
    table = Table(
        title=f"Claims of the papers and this run{demo}",
        caption=f"◦ at small scale · claims fixed in commit {outcomes[0].fixed_in}",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        show_edge=False,
    )
    for name in ("id", "claim", "paper", "ours", "n", "verdict"):
        right = name in {"paper", "ours", "n"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "claim")
    for outcome in outcomes:
        if outcome.verdict != "not run here":
            verdict = verdict_text(outcome, "◦").replace("in sign, not in size", "in sign only")
            short = (*cells(outcome)[:-1], verdict)
            table.add_row(*map(escape, short), style=STYLES[outcome.verdict])
    return table


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Id, claim, published value, ours with its interval, n and verdict, as text."""
    published = "" if math.isnan(outcome.published) else f"{outcome.published:+.3f}"
    return (
        outcome.id,
        outcome.short,
        published,
        value_text(outcome),
        str(outcome.n or ""),
        verdict_text(outcome),
    )


def verdict_text(outcome: Outcome, scale: str = "; small scale") -> str:
    """The verdict with its marks: that of small scale, and † where it falls after Holm."""
    fallen = outcome in decided([outcome]) and not stands(outcome)
    return outcome.verdict + "†" * fallen + scale * outcome.small_scale


def value_text(outcome: Outcome) -> str:
    """Writes what we found.

    Args:
        outcome: of a claim or check.

    Returns:
        Our value and its interval, such as "+0.31 [+0.10, +0.52]", or "no interval"; a check's
        violations;
        "undefined" for what was run with too few models, or where a quantity does not vary.
    """
    if outcome.verdict == "not run here":
        return ""
    if outcome.kind == "check":
        return f"{outcome.estimate:g} violations"
    if math.isnan(outcome.estimate):
        return "undefined"
    if math.isnan(outcome.low):
        return f"{outcome.estimate:+.2f}, no interval"
    return f"{outcome.estimate:+.2f} [{outcome.low:+.2f}, {outcome.high:+.2f}]"


def counts_line(outcomes: Sequence[Outcome]) -> str:
    """How many claims came out each way, such as "40 claims: 3 reproduced, 1 inconclusive, …"."""
    counts = tally(outcomes)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    again = sum(bool(outcome.repeats) for outcome in outcomes)
    return f"{sum(counts.values())} claims ({again} repeat another): {verdicts}"


def holm_line(outcomes: Sequence[Outcome]) -> str:
    """How many verdicts stand together, of those that a test decided."""
    tests = decided(outcomes)
    run = sum(not math.isnan(outcome.p_value) for outcome in outcomes)
    return (
        f"{sum(map(stands, tests))} of {len(tests)} decided by a test stand after Holm's "
        f"correction for {run} tests; † marks the others"
    )


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Says which models the results do without, and why."""
    if not left_out:
        return ["no model diverged or was left out"]
    total = sum(len(entry.models) for entry in left_out)
    return [f"{total} models left out:"] + [
        f"  {entry.group}: {', '.join(entry.models)}: {entry.reason}" for entry in left_out
    ]
