"""The two papers' claims: the types of `claims.yaml` beside this file, and the rule for a verdict.

The claims are fixed before the tables are made; `ledger` compares them with the tables.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from scipy import stats

from flatness.errors import UserError
from flatness.records.frozen import Frozen
from flatness.report.figure_list import PAPERS
from flatness.studies.epfl.published import PUBLISHED

CLAIMS = Path(__file__).with_name("claims.yaml")

Verdict = Literal[
    "reproduced", "in sign, not in size", "not reproduced", "inconclusive", "not run here"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: Verdicts that are decided, since the interval lies on one side.
DECIDED = VERDICTS[:3]
#: In place of a paper: claims of one's own.
OWN = "own"
#: Below these shares of the published experiment, a verdict is at small scale.
SMALL = {"images": 0.1, "steps": 0.05, "models": 0.2}

#: The 97.5 % point of the normal distribution, and the largest τ that has a Fisher's z.
NORMAL, LARGEST = float(stats.norm.ppf(0.975)), 1 - 1e-12


@dataclass(frozen=True)
class Finding:
    """A table's values for a claim.

    Attributes:
        estimate: the value.
        low: lower end of its interval; NaN where there is none.
        high: upper end.
        p_value: two-sided p-value of 0; NaN where there is none.
    """

    estimate: float
    low: float
    high: float
    p_value: float


class Above(Frozen):
    """The value is claimed to exceed a limit."""

    above: float

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """The claimed side is (above, ∞)."""
        return in_size(by_side(found.low - self.above, found.high - self.above), found, published)

    def p_value(self, found: Finding, published: float | None) -> float:
        """That of the interval, where the limit is 0."""
        return found.p_value if self.above == 0 else math.nan

    def __str__(self) -> str:
        return f"> {self.above:g}"


class Below(Frozen):
    """The value is claimed to stay under a limit."""

    below: float

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """The claimed side is (−∞, below)."""
        return in_size(by_side(self.below - found.high, self.below - found.low), found, published)

    def p_value(self, found: Finding, published: float | None) -> float:
        """That of the interval, where the limit is 0."""
        return found.p_value if self.below == 0 else math.nan

    def __str__(self) -> str:
        return f"< {self.below:g}"


class Within(Frozen):
    """A ratio of ours to the published value is claimed to be 1, up to a factor.

    Attributes:
        within: the factor, above 1.
    """

    within: Annotated[float, Field(gt=1)]

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """The claimed side is (1/within, within); an interval across an end decides nothing."""
        least, most = 1 / self.within, self.within
        if least < found.low and found.high < most:
            return "reproduced"
        outside = found.high < least or found.low > most
        return "not reproduced" if outside else "inconclusive"

    def p_value(self, found: Finding, published: float | None) -> float:
        """There is none: no table tests the null hypothesis of equal size."""
        return math.nan

    def __str__(self) -> str:
        return f"between 1/{self.within:g} and {self.within:g}"


class SameAsPublished(Frozen):
    """The published τ and ours are claimed to be from one distribution.

    Two estimates are compared on Fisher's z: ours with its interval, and the published τ with the
    error of a τ of that many models (Fieller, Hartley and Pearson 1957). If they do not differ, the
    verdict is decided only if our interval is no wider than `widest`.

    Attributes:
        published_models: number of models of the published τ.
        widest: largest width of our interval.
    """

    published_models: Annotated[int, Field(gt=4)]
    widest: Annotated[float, Field(gt=0)]

    def verdict(self, found: Finding, published: float | None) -> Verdict:
        """Not reproduced if the interval of the difference excludes 0."""
        score = self._score(found, published)
        if abs(score) > NORMAL:
            return "not reproduced"
        return "reproduced" if found.high - found.low <= self.widest else "inconclusive"

    def p_value(self, found: Finding, published: float | None) -> float:
        """Two-sided p-value of no difference."""
        return float(2 * stats.norm.sf(abs(self._score(found, published))))

    def _score(self, found: Finding, published: float) -> float:
        ends = [min(max(end, -LARGEST), LARGEST) for end in (found.low, found.high)]
        own = (math.atanh(ends[1]) - math.atanh(ends[0])) / (2 * NORMAL)
        theirs = math.sqrt(0.437 / (self.published_models - 4))
        return (math.atanh(found.estimate) - math.atanh(published)) / math.hypot(own, theirs)

    def __str__(self) -> str:
        return "the published value and ours do not differ by more than their errors"


def by_side(low: float, high: float) -> Verdict:
    """The rule: an interval decides if all of it lies on one side of zero.

    Args:
        low: lower end, with the sign such that the claimed side is positive; NaN decides nothing.
        high: upper end.

    Returns:
        The verdict on a claim that was run.
    """
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < 0 else "inconclusive"


def in_size(verdict: Verdict, found: Finding, published: float | None) -> Verdict:
    """Tells a claim reproduced in size from one reproduced in sign only.

    Args:
        verdict: by sign.
        found: ours.
        published: the paper's value, if it gives one.

    Returns:
        "in sign, not in size" if the published value lies outside our interval.
    """
    if verdict == "reproduced" and published is not None:
        return verdict if found.low <= published <= found.high else "in sign, not in size"
    return verdict


class Experiment(Frozen):
    """The published experiment behind claims; None if a number is not given or not fixed.

    Attributes:
        dataset: name of the data set, as in our tables.
        images: training images (rows, nodes).
        steps: steps of training.
        models: what the claim's `n` counts: models, seeds or pools.
    """

    dataset: str
    images: Annotated[int, Field(gt=0)] | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    models: Annotated[int, Field(gt=0)]

    def shares(self, cells: dict[str, str], n: int) -> dict[str, float]:
        """The size of a row's experiment, as shares of the published one.

        Args:
            cells: the row; its `train_size` and `steps` are used if it has them.
            n: the claim's count.

        Returns:
            Share by key of `SMALL`; NaN if either number is unknown.
        """
        ours = {"images": cells.get("train_size"), "steps": cells.get("steps"), "models": n}
        return {
            name: math.nan if own is None or not getattr(self, name)
            else int(own) / getattr(self, name)
            for name, own in ours.items()
        }  # fmt: skip

    def is_larger(self, cells: dict[str, str], shares: dict[str, float]) -> bool:
        """Whether our experiment is small compared with it, or uses another data set."""
        elsewhere = cells.get("dataset", self.dataset) != self.dataset
        return elsewhere or any(shares[name] < least for name, least in SMALL.items())


class Entry(Frozen):
    """Common fields of claims and checks.

    Attributes:
        id: short name.
        paper: key of `PAPERS`, or `OWN` for a claim of one's own, which does not count.
        source: where the paper says it.
        short: the statement in symbols.
        statement: the statement in a sentence, in our words.
        table: path below `results/<config>`.
        where: column to value; selects rows.
        n: column of the count behind a row.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,18}$")]
    paper: Literal[(*PAPERS, OWN)]
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


def _published_tau(value: Any) -> Any:
    """The published τ of a pool, which claims refer to by the pool's name."""
    return PUBLISHED[value][0] if isinstance(value, str) and value in PUBLISHED else value


class Claim(Entry):
    """A statement that can come out false; its `where` selects exactly one row.

    Attributes:
        published: the paper's value, if it gives one; the file may name a pool instead of its τ.
        estimate: column of our value; `low`, `high`: of its interval; `p_value`: of its test.
        expect: what is claimed of the value.
        experiment: key of the published experiment behind it.
        repeats: id of the claim that it repeats, in other words or with other tables.
    """

    published: Annotated[float | None, BeforeValidator(_published_tau)] = None
    estimate: str = "estimate"
    low: str = "low"
    high: str = "high"
    p_value: str = "p_value"
    expect: Above | Below | Within | SameAsPublished
    experiment: str
    repeats: str = ""

    @model_validator(mode="after")
    def _has_what_it_compares(self) -> "Claim":
        if isinstance(self.expect, SameAsPublished) and self.published is None:
            raise ValueError("published_models needs a published value")
        return self


class Check(Entry):
    """A theorem or a test of the code: the column `zero` is 0 in every selected row."""

    zero: str


class Claims(Frozen):
    """All claims, the experiments behind them, and the checks that do not count as claims."""

    experiments: dict[str, Experiment]
    claims: tuple[Claim, ...]
    checks: tuple[Check, ...]

    @model_validator(mode="after")
    def _ids_differ(self) -> "Claims":
        counts = Counter(entry.id for entry in (*self.claims, *self.checks))
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"ids used more than once: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> "Claims":
        ids = {claim.id for claim in self.claims if not claim.repeats}
        for claim in self.claims:
            if claim.experiment not in self.experiments:
                raise ValueError(
                    f"claim {claim.id}: no experiment {claim.experiment}; there are "
                    f"{', '.join(self.experiments)}"
                )
            if claim.repeats and claim.repeats not in ids:
                raise ValueError(f"claim {claim.id}: repeats {claim.repeats}, which is not a claim")
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
    given = {}
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Claims.model_validate(given)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error.errors()[0], given)}") from error


def _explain(item: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """A mistake in a line: in which claim, at which key, what was found, what is wrong."""
    kind, *rest = item["loc"] or ("",)
    where = str(kind)
    if rest and isinstance(rest[0], int):
        where = f"{kind} {given[kind][rest.pop(0)].get('id', '')}".removesuffix(" ")
    place = ".".join([where, *map(str, rest)])
    if item["type"] == "extra_forbidden":
        return f"{place}: no such key"
    whole = isinstance(item["input"], Mapping | list | tuple)
    found = "" if whole else f"found {item['input']!r}: "
    return f"{place + ': ' if place else ''}{found}{item['msg'].removeprefix('Value error, ')}"
