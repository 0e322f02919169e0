"""The two papers, and additions to them, one package each.

`chen` is Chen, Recanatesi and Shea-Brown's grid of networks, `transformers` their vision
transformers, `epfl` the pools of Hammoud, Liossatos and Nicollier, `cross` the measures of each
paper on the models of the other. Each has its `config`, `train`, `measure`, `correlate` and `draw`.
`figures` has the common code of all figures, `titles` the names of networks and data sets in them.
`words` has the descriptions of columns that several tables share, `quantity_columns` those of
measured quantities. `measure_checkpoint` measures one saved network.
"""
