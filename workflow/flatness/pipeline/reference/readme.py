"""The ledger of the kept run, as shown in the README."""

import re
from collections.abc import Sequence
from pathlib import Path

from flatness.records.files import atomic_path
from flatness.records.tables import read_table
from flatness.report.ledger import Outcome
from flatness.report.summary import cells, counts_line, holm_line

MARKS = "<!-- ledger -->", "<!-- /ledger -->"


def show_ledger(readme: Path, ledger: Path) -> None:
    """Replaces the ledger in a page.

    Args:
        readme: Markdown with both of `MARKS`.
        ledger: table of claims and verdicts.
    """
    first, last = MARKS
    text = "\n\n".join([first, ledger_markdown(ledger), last])
    page = re.sub(
        f"{first}.*{last}", lambda _: text, readme.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    with atomic_path(readme) as temporary:
        temporary.write_text(page, encoding="utf-8")


def ledger_markdown(ledger: Path) -> str:
    """The ledger as two tables in Markdown: claims with their counts, then checks.

    Args:
        ledger: table of claims and verdicts.

    Returns:
        One line per claim or check, including those that were not run.
    """
    outcomes = [Outcome(**row) for row in read_table(ledger, Outcome).to_dict("records")]
    claims, checks = (
        [cells(outcome)[1:] for outcome in outcomes if outcome.kind == kind]
        for kind in ("claim", "check")
    )
    checks = [(short, *found) for short, _, *found in checks]  # no paper gives a number for these
    return "\n\n".join(
        [
            f"{counts_line(outcomes)}. {holm_line(outcomes)}.",
            markdown_table(("claim", "paper", "ours", "n", "verdict"), claims),
            "Theorems and checks, which do not count as claims:",
            markdown_table(("theorem or check", "ours", "n", "verdict"), checks),
        ]
    )


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first and the last are numbers."""
    sides = ["---", *["--:"] * (len(headings) - 2), "---"]
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(sides)}|"]
    lines += [f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows]
    return "\n".join(lines)
