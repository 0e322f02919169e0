"""The report: the list of all figures, a self-contained page per run, helpers for notebooks."""
