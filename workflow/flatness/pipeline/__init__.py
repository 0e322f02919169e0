"""The whole workflow: its config, its plan, its runs, and moving and keeping results.

`config` is the typed configuration, `run` the command behind `make`. `plan` estimates the cost of a
run, and `code_version` decides what runs again when code changes. `archive` and `manifest` carry
results between machines. `reference` keeps, compares and redraws the committed run.
"""
