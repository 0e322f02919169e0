"""The progress bar of anything that takes more than a few seconds."""

import sys

from tqdm.auto import tqdm

#: Seconds before it shows.
DELAY = 3

Bar = tqdm


def bar(total: int, what: str) -> Bar:
    """A bar on a terminal or in a notebook; silent where output goes to a file.

    Args:
        total: units of work.
        what: the work, in words.

    Returns:
        An iterator over the units, or a context that counts them by `update`.
    """
    seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(range(total), desc=what, delay=DELAY, leave=False, disable=not seen)
