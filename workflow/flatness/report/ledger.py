"""The ledger: every claim of the two papers compared with the tables of a run."""

import math
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flatness.errors import DataError, UserError
from flatness.records.tables import Row, column, read_text
from flatness.report.claims import (
    DECIDED,
    OWN,
    VERDICTS,
    Check,
    Claim,
    Claims,
    Experiment,
    Finding,
)
from flatness.statistics.correlations import holm
from flatness.studies import words

Cells = dict[str, str]
#: Column to value.
Where = dict[str, str | bool | int]
#: Values of a column that a message names at most.
SHOWN = 8
#: Family-wise error rate of Holm's procedure: the chance of at least one false verdict.
FALSE_VERDICTS = 0.05


class Outcome(Row):
    """One line of the ledger."""

    id: str = column("name of the claim or check")
    kind: str = column(
        "claim; own claim, of the user; check, a theorem or a test of the code; only claims count"
    )
    paper: str = column("chen or epfl; own for a claim of the user")
    source: str = column("where the paper says it")
    short: str = column("what is claimed, in symbols")
    statement: str = column("what is claimed, in a sentence")
    expectation: str = column("what would reproduce it")
    published: float = column("the paper's value; nan where it gives none")
    estimate: float = column(
        words.ESTIMATE,
        convention="as the claim's table has it; of a check the number of violations",
    )
    low: float = column(words.LOW)
    high: float = column(words.HIGH)
    n: int = column(words.N, convention="models, runs, replications or comparisons")
    excluded: int = column(words.EXCLUDED, convention="models or runs")
    interpolating: int = column(words.INTERPOLATING, convention="of n; -1 where that is not asked")
    demo: bool = column(words.DEMO)
    verdict: str = column(
        "claims: reproduced (the whole interval on the claimed side); in sign, not in size (so, "
        "but without the published value); not reproduced (on the other side), inconclusive, "
        "not run here; checks: holds, violated, not run here"
    )
    reason: str = column(words.REASON, convention="why it was not run here")
    small_scale: bool = column(
        "whether it stands on another data set, or on less than 10 % of the published experiment's "
        "training images, 5 % of its steps or 20 % of its models; such a claim never counts as "
        "plainly not reproduced"
    )
    share_images: float = column("our training images as a share of theirs; nan where not given")
    share_steps: float = column("our steps of training, likewise")
    share_models: float = column("our models, seeds or pools, likewise")
    p_value: float = column(words.P_VALUE, convention="the verdict's test")
    p_holm: float = column(
        "the same, adjusted by Holm's procedure for all claims that were run; own claims apart"
    )
    repeats: str = column("id of the claim that it says again; empty for none")
    table: str = column("the table it reads, below the results folder")
    fixed_in: str = column("commit in which the claims were last changed")


def evaluate(claims: Claims, results: Path, fixed_in: str) -> list[Outcome]:
    """Compares every claim and check with the tables of one config.

    Args:
        claims: claims and checks.
        results: folder of one config, as `results/laptop`.
        fixed_in: commit of the claims.

    Returns:
        One outcome per claim, then one per check; without a table or row it is "not run here".

    Raises:
        UserError: a claim names a column that its table lacks, or selects more than one row.
        DataError: a table cannot be read.
    """
    found = [
        _outcome(entry, _findings(entry, results, claims.experiments), fixed_in)
        for entry in (*claims.claims, *claims.checks)
    ]
    adjusted = dict[str, float]()
    for own in (True, False):
        family = [outcome for outcome in found if (outcome.paper == OWN) is own]
        p_values = holm([outcome.p_value for outcome in family])
        adjusted |= {o.id: float(p) for o, p in zip(family, p_values, strict=True)}
    return [outcome.model_copy(update={"p_holm": adjusted[outcome.id]}) for outcome in found]


def _findings(
    entry: Claim | Check, results: Path, experiments: dict[str, Experiment]
) -> dict[str, object]:
    """The columns of an `Outcome` that depend on the entry's table."""
    path = results / entry.table
    try:
        if not path.exists():
            return {"verdict": "not run here", "reason": "this run has no such table"}
        table = read_text(path).to_dict("records")
        rows = [cells for cells in table if _fits(cells, entry.where)]
        if not rows:
            return {"verdict": "not run here", "reason": _misfit(table, entry.where)}
        if isinstance(entry, Claim):
            found = _judge_claim(entry, rows, experiments[entry.experiment])
        else:
            found = _judge_check(entry, rows)
        return {"demo": rows[0].get("demo") == "True"} | found
    except KeyError as error:
        raise UserError(
            f"claim {entry.id}: {path} has no column {error.args[0]}; correct the claim, or make "
            "the table again if an earlier version wrote it"
        ) from error
    except ValueError as error:
        raise DataError(f"claim {entry.id}: {path}: {error}; make the table again") from error


def _fits(cells: Cells, where: Where) -> bool:
    return all(cells[name] == str(value) for name, value in where.items())


def _misfit(table: list[Cells], where: Where) -> str:
    """Why no row fits: a value that its column lacks, or the combination."""
    for name, value in where.items():
        there = list(dict.fromkeys(cells[name] for cells in table))
        if str(value) not in there:
            more = ", …" if len(there) > SHOWN else ""
            shown = ", ".join(there[:SHOWN]) + more
            return f"no row of its table has {name} = {value}; there are {shown}"
    return "each value of its `where` is in its table, but no row has them all"


def _judge_claim(claim: Claim, rows: list[Cells], published: Experiment) -> dict[str, object]:
    if len(rows) > 1:
        raise UserError(
            f"claim {claim.id}: {len(rows)} rows of {claim.table} fit {claim.where}; add columns "
            "to its `where` until one is left"
        )
    [cells] = rows
    names = (claim.estimate, claim.low, claim.high, claim.p_value)
    found = Finding(*(float(cells[name]) for name in names))
    n = int(cells[claim.n])
    shares = published.shares(cells, n)
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": n,
        "excluded": int(cells.get("excluded", 0)),
        "interpolating": int(cells.get("interpolating", -1)),
        "verdict": claim.expect.verdict(found, claim.published),
        "p_value": claim.expect.p_value(found, claim.published),
        "small_scale": published.is_larger(cells, shares),
        **{f"share_{name}": share for name, share in shares.items()},
    }


def _judge_check(check: Check, rows: list[Cells]) -> dict[str, object]:
    broken = sum(int(cells[check.zero]) for cells in rows)
    return {
        "estimate": broken,
        "n": sum(int(cells[check.n]) for cells in rows),
        "verdict": "violated" if broken else "holds",
    }


def _outcome(entry: Claim | Check, found: dict[str, object], fixed_in: str) -> Outcome:
    own = {name: getattr(entry, name) for name in ("id", "paper", "source", "short", "statement")}
    numbers = [name for name, field in Outcome.model_fields.items() if field.annotation is float]
    nothing = dict.fromkeys(numbers, math.nan) | {"demo": False, "small_scale": False}
    nothing |= {"n": 0, "excluded": 0, "interpolating": -1, "repeats": "", "reason": ""}
    if isinstance(entry, Claim):
        kind = "own claim" if entry.paper == OWN else "claim"
        own |= {"kind": kind, "expectation": str(entry.expect), "repeats": entry.repeats}
        own |= {} if entry.published is None else {"published": entry.published}
    else:
        own |= {"kind": "check", "expectation": f"{entry.zero} = 0"}
    return Outcome(**(nothing | own | found), table=entry.table, fixed_in=fixed_in)


def standing(outcome: Outcome) -> str:
    """The verdict, with "at small scale" if it applies."""
    return f"{outcome.verdict} at small scale" if outcome.small_scale else outcome.verdict


def tally(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Number of claims by verdict, without checks; small scale is counted separately."""
    counts = Counter(standing(outcome) for outcome in outcomes if outcome.kind == "claim")
    names = [name for verdict in VERDICTS for name in (verdict, f"{verdict} at small scale")]
    return {name: counts[name] for name in names if counts[name] or name in VERDICTS}


def stands(outcome: Outcome) -> bool:
    """Whether a decided verdict survives the correction for all claims."""
    return outcome.verdict in DECIDED and outcome.p_holm < FALSE_VERDICTS


def decided(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The claims decided by a test; a claim of no difference rejects nothing, so it is not one."""
    claims = [outcome for outcome in outcomes if outcome.verdict in DECIDED]
    return [outcome for outcome in claims if outcome.p_value < FALSE_VERDICTS]


def commit_of(path: Path) -> str:
    """The commit in which a file was last changed.

    Args:
        path: the file.

    Returns:
        Short hash, with "and changed since" if the file differs from it; "unknown" without git or
        before the first commit of the file.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments, "--", path.name]
        done = subprocess.run(
            command, cwd=path.parent, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.strip()

    try:
        commit = git("log", "-1", "--format=%h")
        changed = git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    if not commit:
        return "unknown"
    return f"{commit} and changed since" if changed else commit
