"""The console for tables and messages."""

from rich.console import Console

#: Columns of logs and pipes, which have no width.
WIDTH = 100


def console() -> Console:
    """The console for tables: as wide as the terminal, or `WIDTH` without one."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = WIDTH
    return found
