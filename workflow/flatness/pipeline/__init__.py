"""The whole workflow: its config, its plan, one run from start to end, and what becomes of results.

`config` is the typed configuration of everything, `run` the command behind `make`, `plan` says what
a run will take, `code_version` what runs again when code changes, `archive` and `manifest` carry
results between machines, `reference` keeps, compares and redraws the committed run.
"""
