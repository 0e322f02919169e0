"""Snakemake's messages on the terminal, without the commands of jobs that failed.

A command holds its settings as JSON: kilobytes that Snakemake shows more than once. Its own log
file, which it names at the end, and `--printshellcmds` have them whole.
"""

import logging
import re

#: A command in the two forms that Snakemake shows it in, and what is left of it.
COMMANDS = (
    (
        re.compile(r"    shell:\n.*?\n +\(command exited with non-zero exit code\)\n?", re.DOTALL),
        "",
    ),
    (re.compile(r"Command '.*' (returned|died)", re.DOTALL), r"The command \1"),
)


class WithoutCommands(logging.Formatter):
    """Formats as another formatter does and leaves commands out of errors."""

    def __init__(self, inner: logging.Formatter):
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The message of the inner formatter; an error without its command."""
        text = self.inner.format(record)
        if record.levelno >= logging.ERROR:
            for pattern, rest in COMMANDS:
                text = pattern.sub(rest, text)
        return text


def hide_commands(logger: logging.Logger) -> None:
    """Keeps commands of failed jobs from the terminal, not from log files.

    Args:
        logger: Snakemake's.
    """
    for handler in logger.handlers:
        to_terminal = not isinstance(handler, logging.FileHandler) and handler.formatter
        if to_terminal and not isinstance(handler.formatter, WithoutCommands):
            handler.setFormatter(WithoutCommands(handler.formatter))
