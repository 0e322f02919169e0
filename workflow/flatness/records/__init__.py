"""How results are stored: strict settings, typed tables, tensor files, provenance.

`frozen` has immutable settings and their hashes. `tables` has CSV files with declared columns and
the provenance of each row; `derived` has the provenance of rows that are computed from other rows.
`tensors` has safetensors files and the resumable state of a job. `files` writes a file completely
or not at all.
"""
