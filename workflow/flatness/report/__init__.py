"""The report: one self-contained page of a run, and what the notebooks read."""
