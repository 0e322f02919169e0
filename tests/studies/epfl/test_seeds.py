import torch

from flatness.studies.epfl.seeds import generator, seed_of


def test_the_key_and_nothing_else_determines_the_numbers():
    assert torch.rand(3, generator=generator("epoch", 1, 2)).equal(
        torch.rand(3, generator=generator("epoch", 1, 2))
    )
    keys = [("epoch", 1, 2), ("epoch", 2, 1), ("epoch", 12), ("initial", 1, 2), ("epoch", 1)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
