"""Cora: 2708 papers, 1433 words present or absent, 7 classes, the public split 140/500/1000."""

from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.io import read_planetoid_data

from flatness.datasets.sources import Source

SOURCE = Source(
    folder="cora",
    address="https://github.com/kimiyoung/planetoid/raw/master/data/",
    licence="MIT repository, public data; the Planetoid split (Yang et al. 2016)",
    files={
        "ind.cora.x": "sha256:23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "ind.cora.tx": ("sha256:b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"),
        "ind.cora.allx": (
            "sha256:9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"
        ),
        "ind.cora.y": "sha256:94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "ind.cora.ty": ("sha256:41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"),
        "ind.cora.ally": (
            "sha256:2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"
        ),
        "ind.cora.graph": (
            "sha256:58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"
        ),
        "ind.cora.test.index": (
            "sha256:297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"
        ),
    },
)


def read(root: Path) -> dict[str, Tensor]:
    """The tensors, from the verified files below `root`."""
    graph = read_planetoid_data(str(root / "cora"), "cora")
    return {
        "inputs": graph.x.to(torch.uint8),
        "targets": graph.y,
        "edge_index": graph.edge_index,
        "train_mask": graph.train_mask,
        "val_mask": graph.val_mask,
        "test_mask": graph.test_mask,
    }
