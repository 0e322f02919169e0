"""The two papers, and what was added to them: a package each.

`chen` is Chen, Recanatesi and Shea-Brown's grid of networks, `transformers` their vision
transformers, `epfl` the pools of Hammoud, Liossatos and Nicollier, `cross` the measures of each
paper on the models of the other. Each has its `config`, `train`, `measure`, `correlate` and `draw`.
`figures` is what all figures share, `titles` what they call networks and data sets, `words` the
descriptions that columns of several tables share, `quantity_columns` those of measured quantities;
`measure_checkpoint` measures one saved network.
"""
