"""What is written down, and how: strict settings, typed tables, tensor files, provenance.

`frozen` holds settings that cannot change and their hashes, `tables` CSV files whose columns are
declared and where each row says what made it, `derived` the same of rows that follow from rows,
`tensors` safetensors files and the resumable state of a job, `files` how a file is written whole or
not at all.
"""
