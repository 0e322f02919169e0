"""The summary at the end of a run: the ledger, the models left out, where to look."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from flatness.records import layout
from flatness.records.tables import read_text
from flatness.report.claims import CLAIMS, OWN, read_claims
from flatness.report.figure_list import PAPERS
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

SYMBOLS = (
    "  (S: sharpness; MLS, NMLS, volume: how far outputs move with the input; r, ρ, τ: "
    "correlations, below 0 where one falls as the other rises)"
)
#: Name of a study's networks -> its tables, and the columns with kind and name.
TRAINED = {
    "in pools": (layout.EPFL_TRAINED, "pool", "seed"),
    "over learning rates and batch sizes": (layout.CHEN_TRAINED, "family", "seed"),
    "transformers": (layout.VIT_TRAINED, "family", "model"),
}


def print_summary(results: Path, claims: Path = CLAIMS) -> None:
    """Prints what was trained, found and left out, where to look and what to do next.

    Args:
        results: folder of one config, as `results/demo`.
        claims: the claims.
    """
    out = console()
    outcomes = evaluate(read_claims(claims), results, commit_of(claims))
    if any(decidable(outcome) for outcome in outcomes):
        out.print(ledger_table(outcomes))
        out.print(holm_line(outcomes))
    found = [*trained_lines(results), *found_lines(outcomes)]
    for line in [*found, *left_out_lines(left_out_models(results))]:
        out.print(escape(line))
    figures = layout.files(results, layout.PICTURE)
    if figures:
        out.print(f"{len(figures)} figures in {figures[0].parent}/", soft_wrap=True)
    report = results / layout.PAGE
    if report.exists():
        out.print(f"report: {report} (open it in a browser)", soft_wrap=True)
        explorable = results / layout.EXPLORABLE
        if explorable.exists():
            out.print(f"every model, to point at: {explorable}", soft_wrap=True)
        out.print(f"next: {next_step(outcomes)}", soft_wrap=True)


def decidable(outcome: Outcome) -> bool:
    """Whether a run could decide it: a check that was run, or a claim with an interval."""
    return outcome.verdict != "not run here" and (
        outcome.kind == "check" or not math.isnan(outcome.low)
    )


def trained_lines(results: Path) -> list[str]:
    """Counts the networks that a run trained, by study and kind; empty if it trained none."""
    parts = []
    for study, (pattern, kind, name) in TRAINED.items():
        tables = [
            read_text(path)[[kind, name]].assign(job=path.parent.name)
            for path in layout.files(results, pattern)
        ]
        if tables:
            counts = pd.concat(tables).drop_duplicates()[kind].value_counts(sort=False)
            kinds = ", ".join(f"{count} {title}" for title, count in counts.items())
            parts.append(f"{counts.sum()} {study} ({kinds})")
    return [f"trained: {'; '.join(parts)}"] if parts else []


def found_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The results of a run: one sentence per paper and one for the theorems.

    Args:
        outcomes: the ledger.

    Returns:
        How many claims were decided and which way; demo data are named as such.
    """
    lines = [counts_line(outcomes)]
    if not any(decidable(outcome) for outcome in outcomes):
        return lines
    if any(outcome.demo for outcome in outcomes):
        lines.append("Found on demo data, which say nothing on the papers' own:")
    for paper, title in (*PAPERS.items(), (OWN, "Own claims")):
        claims = [o for o in outcomes if o.kind != "check" and o.paper == paper]
        if any(outcome.verdict != "not run here" for outcome in claims):
            lines.append(f"- {title}: {_decided(claims)}")
    checks = [o for o in outcomes if o.kind == "check" and o.verdict != "not run here"]
    if checks:
        broken = sum(int(outcome.estimate) for outcome in checks)
        compared = sum(outcome.n for outcome in checks)
        held = "were violated in" if broken else "held in all"
        count = f"{broken} of {compared}" if broken else f"{compared}"
        lines.append(f"- The bounds that are theorems {held} {count} comparisons.")
    return [*lines, SYMBOLS]


def _decided(claims: Sequence[Outcome]) -> str:
    """Which of a paper's claims were reproduced, and which came out the other way."""
    parts = []
    for verdict, name in (("reproduced", "as claimed"), ("not reproduced", "the other way")):
        chosen = [outcome for outcome in claims if outcome.verdict == verdict]
        example = f", such as {chosen[0].short}: {value_text(chosen[0])}" if chosen else ""
        parts.append(f"{len(chosen)} came out {name}{example}")
    return f"of {len(claims)} claims {'; '.join(parts)}; the others are not decided."


def next_step(outcomes: Sequence[Outcome]) -> str:
    """The commands to type after a run."""
    if any(outcome.demo for outcome in outcomes):
        return "`make plan` says what a run on the published data takes, `make laptop` starts it"
    return "`make compare` holds these tables against the committed ones"


def ledger_table(outcomes: Sequence[Outcome]) -> Table:
    """A table of the claims and checks that could be decided; the report has all of them."""
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
        if decidable(outcome):
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
    """The verdict with its marks: small scale, and † if it does not survive Holm's correction."""
    fallen = outcome in decided([outcome]) and not stands(outcome)
    return outcome.verdict + "†" * fallen + scale * outcome.small_scale


def value_text(outcome: Outcome) -> str:
    """Our value as text.

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
    low, high = f"{outcome.low:+.2f}", f"{outcome.high:+.2f}"
    if low == high and outcome.low != outcome.high:  # a small ratio
        return f"{outcome.estimate:+.2g} [{outcome.low:+.2g}, {outcome.high:+.2g}]"
    return f"{outcome.estimate:+.2f} [{low}, {high}]"


def counts_line(outcomes: Sequence[Outcome]) -> str:
    """Number of claims by verdict, such as "40 claims: 3 reproduced, 1 inconclusive, …"."""
    counts = tally(outcomes)
    outcomes = [outcome for outcome in outcomes if outcome.paper != OWN]
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    again = sum(bool(outcome.repeats) for outcome in outcomes)
    few = sum(o.verdict == "inconclusive" and not decidable(o) for o in outcomes)
    remark = f"; {few} of the inconclusive have too few models for an interval" if few else ""
    return f"{sum(counts.values())} claims ({again} repeat another): {verdicts}{remark}"


def holm_line(outcomes: Sequence[Outcome]) -> str:
    """How many of the verdicts decided by a test survive Holm's correction."""
    outcomes = [outcome for outcome in outcomes if outcome.paper != OWN]
    tests = decided(outcomes)
    run = sum(not math.isnan(outcome.p_value) for outcome in outcomes)
    return (
        f"{sum(map(stands, tests))} of {len(tests)} decided by a test stand after Holm's "
        f"correction for {run} tests; † marks the others"
    )


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Prints which models are left out of the results, and why."""
    if not left_out:
        return ["no model diverged or was left out"]
    total = sum(len(entry.models) for entry in left_out)
    return [f"{total} models left out:"] + [
        f"  {entry.group}: {', '.join(entry.models)}: {entry.reason}" for entry in left_out
    ]
