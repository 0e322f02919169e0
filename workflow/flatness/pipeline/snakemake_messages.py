"""Snakemake's messages on the terminal, without the commands of jobs that failed.

A command contains its settings as JSON: kilobytes that Snakemake shows more than once. Snakemake's
own log file, which it names at the end, and `--printshellcmds` show whole commands.
"""

import logging
import re

#: The two forms in which Snakemake shows a command, and what replaces them.
COMMANDS = (
    (
        re.compile(r"    shell:\n.*?\n +\(command exited with non-zero exit code\)\n?", re.DOTALL),
        "",
    ),
    (re.compile(r"Command '.*' (returned|died)", re.DOTALL), r"The command \1"),
)


class WithoutCommands(logging.Formatter):
    """Formats like another formatter, but leaves commands out of errors."""

    def __init__(self, inner: logging.Formatter):
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The message of the inner formatter; errors without their command."""
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
