"""Where tables and messages are printed."""

from rich.console import Console

#: Columns of logs and pipes, which have no width of their own.
WIDTH = 100


def console() -> Console:
    """What tables are printed on: as wide as the terminal, or `WIDTH` where there is none."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = WIDTH
    return found
