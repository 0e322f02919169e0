"""Changes after interpolation: from the first interpolating checkpoint to the last.

According to the captions of the paper's figures 1 and 2, sharpness and volumes decrease together
after the loss is minimised.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from flatness.statistics.correlations import mean_interval
from flatness.statistics.settings import Statistics
from flatness.studies.chen.effects import FACTORS, MOVED
from flatness.studies.chen.quantities import one_factor
from flatness.studies.chen.within_groups import excluded

SAMPLED = ("train", "test")


def interpolated_changes(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Changes after interpolation, of every run, over the seeds of each level, and over all levels.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        settings: of the intervals.

    Yields:
        Columns of `InterpolatedChange`; nothing if no run was measured along training.
    """
    for sampled in SAMPLED:
        part = table[table["sampled"] == sampled].sort_values("step")
        runs = pd.DataFrame(
            [run_change(run) for _, run in part.groupby(["setting", "seed"]) if len(run) > 1]
        )
        if runs.empty:
            continue
        for run in runs.to_dict("records"):
            place = {"sampled": sampled, "factor": "setting", "level": run["setting"]}
            place["steps"] = run["last_step"]
            yield from (
                {"over": "run", **place, **over_seeds(pd.DataFrame([run]), y, settings)}
                | {"seed": run["seed"], "y": y}
                for y in MOVED
            )
        for factor in FACTORS:
            varied = one_factor(runs, factor)
            levels = [("all", varied), *((f"{k:g}", v) for k, v in varied.groupby(factor))]
            for level, chosen in levels if len(levels) > 2 else ():
                place = {"over": "seeds", "sampled": sampled, "factor": factor, "level": level}
                place["steps"] = int(chosen["last_step"].max())
                for y in MOVED:
                    yield place | {"seed": -1, "y": y} | over_seeds(chosen, y, settings)


def run_change(run: pd.DataFrame) -> dict[str, Any]:
    """One run's changes.

    Args:
        run: its checkpoints by step.

    Returns:
        Its setting and seed, the first interpolating and the last step, and the change of each of
        `MOVED` between them; all NaN with a `reason` if there is no change.
    """
    last = run.iloc[-1]
    names = ("setting", "seed", "learning_rate", "batch_size")
    found = {name: last[name] for name in names} | dict.fromkeys(MOVED, np.nan)
    found |= {"first_step": -1, "last_step": last["step"], "reason": last["reason"]}
    inside = np.flatnonzero(run["interpolated"])
    if last["diverged"]:
        return found
    if not len(inside) or inside[0] == len(run) - 1:
        return found | {"reason": "no checkpoint after the first that interpolates"}
    first = run.iloc[inside[0]]
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = {
            y: last[y] - first[y] if y.startswith("log") else np.log(last[y] / first[y])
            for y in MOVED
        }
    return found | {"first_step": first["step"]} | changes


def over_seeds(runs: pd.DataFrame, y: str, settings: Statistics) -> dict[str, Any]:
    """Mean change over seeds, each the mean of its runs.

    Args:
        runs: rows as `run_change` returns them.
        y: one of `MOVED`.
        settings: of the intervals.

    Returns:
        The columns of `InterpolatedChange` from `estimate` on.
    """
    finite = np.isfinite(runs[y])
    used = runs[finite]
    seeds = used.groupby("seed")[y].mean().to_numpy()
    return {
        "estimate": float(seeds.mean()) if len(seeds) else np.nan,
        **vars(mean_interval(seeds, settings.confidence)),
        "rising": int((used[y] > 0).sum()),
        "runs": len(used),
        "n": len(seeds),
        "first_step": int(used["first_step"].max()) if len(used) else -1,
        "last_step": int(runs["last_step"].max()),
        **excluded(runs[~finite]),
    }
