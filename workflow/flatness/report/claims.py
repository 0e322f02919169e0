"""What the two papers claim: the types of `claims.yaml` beside this file, the rule for a verdict.

The claims are fixed before the tables are made; `ledger` holds them against the tables.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from flatness.errors import UserError
from flatness.records.frozen import Frozen

CLAIMS = Path(__file__).with_name("claims.yaml")
PAPERS = {
    "chen": "Chen, Recanatesi and Shea-Brown: loss flatness and compressed representations",
    "epfl": "Hammoud, Liossatos and Nicollier: adaptive sharpness and generalization",
}

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not run here"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive", "not run here")


@dataclass(frozen=True)
class Finding:
    """What a table says about a claim.

    Attributes:
        low: lower end of the value's interval; NaN where there is none.
        high: upper end.
        cells: the whole row, as text.
    """

    low: float
    high: float
    cells: dict[str, str]


class Above(Frozen):
    """The value is claimed to exceed a limit."""

    above: float

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """The claimed side is (above, ∞)."""
        return by_side(found.low - self.above, found.high - self.above)

    def __str__(self) -> str:
        return f"> {self.above:g}"


class Below(Frozen):
    """The value is claimed to stay under a limit."""

    below: float

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """The claimed side is (−∞, below)."""
        return by_side(self.below - found.high, self.below - found.low)

    def __str__(self) -> str:
        return f"< {self.below:g}"


class PublishedWithin(Frozen):
    """The published value is claimed to be one that a single run may give.

    It must lie in the predictive interval of one run, held in two columns, and have the sign of our
    mean. An interval of our mean that is wider than `widest`, or around zero, settles nothing.
    """

    published_within: tuple[str, str]
    widest: Annotated[float, Field(gt=0)]

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """Compares the published value with the row's predictive interval."""
        low, high = (float(found.cells[name]) for name in self.published_within)
        if math.isnan(low + high) or not found.high - found.low <= self.widest:
            return "inconclusive"
        if not low <= published <= high:
            return "not reproduced"
        return by_side(*sorted((found.low * published, found.high * published)))

    def __str__(self) -> str:
        return "published value in the predictive interval of one run, same sign"


def by_side(low: float, high: float) -> Verdict:
    """The rule: an interval decides if all of it lies on one side of zero.

    Args:
        low: lower end, counted so that positive is the claimed side; NaN decides nothing.
        high: upper end.

    Returns:
        The verdict on a claim that was run.
    """
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < 0 else "inconclusive"


class Entry(Frozen):
    """What claims and checks share.

    Attributes:
        id: short name.
        paper: key of `PAPERS`.
        source: where the paper says it.
        short: what is said, in symbols.
        statement: what is said, in a sentence of ours.
        table: path below `results/<config>`.
        where: column to value; selects rows.
        n: column of the count behind a row.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,18}$")]
    paper: Literal[tuple(PAPERS)]
    source: str
    short: Annotated[str, Field(max_length=30)]
    statement: str
    table: str
    where: dict[str, str | bool | int]
    n: str = "n"

    @field_validator("table")
    @classmethod
    def _inside_results(cls, table: str) -> str:
        if Path(table).is_absolute() or ".." in Path(table).parts:
            raise ValueError("a path below results/<config> is wanted")
        return table


class Claim(Entry):
    """A statement that can come out false; its `where` selects exactly one row.

    Attributes:
        published: the paper's value, if it gives one.
        estimate: column of our value; `low`, `high`: of its interval.
        expect: what is claimed of the value.
    """

    published: float | None = None
    estimate: str = "estimate"
    low: str = "low"
    high: str = "high"
    expect: Above | Below | PublishedWithin

    @model_validator(mode="after")
    def _has_what_it_compares(self) -> "Claim":
        if isinstance(self.expect, PublishedWithin) and self.published is None:
            raise ValueError("published_within needs a published value")
        return self


class Check(Entry):
    """A theorem or a test of the code: the column `zero` is 0 in every selected row."""

    zero: str


class Claims(Frozen):
    """All claims, and the checks that do not count as claims."""

    claims: tuple[Claim, ...]
    checks: tuple[Check, ...]

    @model_validator(mode="after")
    def _ids_differ(self) -> "Claims":
        counts = Counter(entry.id for entry in (*self.claims, *self.checks))
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"ids used more than once: {', '.join(twice)}")
        return self


def read_claims(path: Path = CLAIMS) -> Claims:
    """Reads the claims.

    Args:
        path: claims.yaml.

    Returns:
        The typed claims.

    Raises:
        UserError: not readable, or a claim is not well formed; names the place and the value.
    """
    try:
        return Claims.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        item = error.errors()[0]
        place = ".".join(str(part) for part in item["loc"])
        raise UserError(f"{path}: {place}: found {item['input']!r}: {item['msg']}") from error
