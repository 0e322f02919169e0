"""The ledger of the kept run as the README shows it."""

import re
from pathlib import Path

from flatness.files import atomic_path
from flatness.ledger import Outcome
from flatness.summary import cells, counts_line
from flatness.tables import read_table

MARKS = "<!-- ledger -->", "<!-- /ledger -->"


def show_ledger(readme: Path, ledger: Path) -> None:
    """Replaces the ledger in a page.

    Args:
        readme: Markdown with both of `MARKS`.
        ledger: table of claims and verdicts.
    """
    first, last = MARKS
    text = "\n\n".join([first, ledger_markdown(ledger), last])
    page = re.sub(f"{first}.*{last}", lambda _: text, readme.read_text(), flags=re.DOTALL)
    with atomic_path(readme) as temporary:
        temporary.write_text(page)


def ledger_markdown(ledger: Path) -> str:
    """The ledger as a table in Markdown, its counts before it.

    Args:
        ledger: table of claims and verdicts.

    Returns:
        One line a claim or check that was run.
    """
    outcomes = [Outcome(**row) for row in read_table(ledger, Outcome).to_dict("records")]
    lines = ["| claim | paper | ours | n | verdict |", "|---|--:|--:|--:|---|"]
    for outcome in outcomes:
        if outcome.verdict != "not run here":
            _, *shown = cells(outcome)
            lines.append(f"| {' | '.join(text.replace('|', '∣') for text in shown)} |")
    return counts_line(outcomes) + "\n\n" + "\n".join(lines)
