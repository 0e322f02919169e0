"""The report: the list of all figures, one self-contained page of a run, what notebooks read."""
