"""The ledgers of the kept runs, as shown in the README: one table, the larger run beside."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from flatness.records.files import atomic_path
from flatness.records.tables import read_table
from flatness.report.ledger import Outcome
from flatness.report.summary import cells, counts_line, holm_line, value_text, verdict_text

MARKS = "<!-- ledger -->", "<!-- /ledger -->"
#: Heading of the column for the larger run.
LARGER = "in the larger run"


def show_ledger(readme: Path, ledger: Path, larger: Path) -> None:
    """Replaces the ledger in a page.

    Args:
        readme: Markdown with both of `MARKS`.
        ledger: table of claims and verdicts.
        larger: the same of a run at a larger scale, which may be missing.
    """
    first, last = MARKS
    text = "\n\n".join([first, ledger_markdown(ledger, larger), last])
    page = re.sub(
        f"{first}.*{last}", lambda _: text, readme.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    with atomic_path(readme) as temporary:
        temporary.write_text(page, encoding="utf-8")


def ledger_markdown(ledger: Path, larger: Path) -> str:
    """The ledger as two tables in Markdown: claims with their counts, then checks.

    Args:
        ledger: table of claims and verdicts.
        larger: the same of a run at a larger scale, which may be missing; models that both runs
            have are not shown twice.

    Returns:
        One line per claim or check, including those that were not run.
    """
    outcomes = _read(ledger)
    known = set(map(_same_models, outcomes))
    decided = [
        one
        for one in (_read(larger) if larger.exists() else [])
        if _is_decided(one) and _same_models(one) not in known
    ]
    beside = {
        outcome.id: f"{value_text(outcome)}, n = {outcome.n}: {verdict_text(outcome)}"
        for outcome in decided
    }
    claims, checks = (
        [
            (*cells(outcome)[1:], beside.get(outcome.id, ""))
            for outcome in outcomes
            if outcome.kind == kind
        ]
        for kind in ("claim", "check")
    )
    checks = [(short, *found) for short, _, *found in checks]  # no paper gives a number for these
    counts = [f"{counts_line(outcomes)}. {holm_line(outcomes)}."]
    if decided:
        counts.append(f"{LARGER.capitalize()}: {counts_line(decided)}.")
    return "\n\n".join(
        [
            *counts,
            markdown_table(("claim", "paper", "ours", "n", "verdict", LARGER), claims),
            "Theorems and checks, which do not count as claims:",
            markdown_table(("theorem or check", "ours", "n", "verdict", LARGER), checks),
        ]
    )


def _read(ledger: Path) -> list[Outcome]:
    return [Outcome(**row) for row in read_table(ledger, Outcome).to_dict("records")]


def _same_models(outcome: Outcome) -> tuple[str, str, int]:
    """What is equal in two ledgers if they judge a claim by the same models."""
    return outcome.id, value_text(outcome), outcome.n


def _is_decided(outcome: Outcome) -> bool:
    """Whether the claim was run, with enough seeds for an interval, or the check was."""
    without_interval = outcome.kind == "claim" and math.isnan(outcome.low)
    return outcome.verdict != "not run here" and not without_interval


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first and the last two are numbers."""
    sides = ["---", *["--:"] * (len(headings) - 3), "---", "---"]
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(sides)}|"]
    lines += [f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows]
    return "\n".join(lines)
