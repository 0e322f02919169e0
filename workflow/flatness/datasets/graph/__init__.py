"""Graphs: `inputs` (nodes, words), `targets` (nodes,), `edge_index` (2, edges), three masks.

`train_mask`, `val_mask` and `test_mask` (nodes,) split the nodes as Planetoid does.
"""
