"""Ascents in boxes and balls where the maximum is known."""

import math

import pytest
import torch

from flatness.measures.balls import ASCENTS, Ball, _checkpoints, auto_ascent, highest, top

SIZE = 12


def vector(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SIZE, generator=generator, dtype=torch.float64)


def slope_of(function):
    def slope(u):
        leaf = u.clone().requires_grad_()
        value = function(leaf)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    return slope


@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_linear_loss_rises_by_the_dual_norm(ascent, norm, dual):
    a = vector()
    climb = ASCENTS[ascent]
    zero = torch.zeros_like(a)
    found = top(climb(slope_of(lambda u: a @ u), Ball(norm, 0.3), zero, 3))
    assert float(found) == pytest.approx(0.3 * float(a.norm(p=dual)), rel=1e-9)


@pytest.mark.parametrize("ascent", ASCENTS)
def test_a_quadratic_rises_to_its_largest_eigenvalue_in_the_l2_ball(ascent):
    values = torch.linspace(0.1, 2.0, SIZE, dtype=torch.float64)
    climb = ASCENTS[ascent]
    slope = slope_of(lambda u: (values * u.square()).sum())
    start = 0.1 * vector() / vector().norm()
    found = top(climb(slope, Ball("l2", 0.5), start, 60))
    assert 0.97 * 0.5 < float(found) <= 0.5 + 1e-12


@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_hill_inside_is_climbed_and_nothing_leaves_the_ball(ascent, norm):
    hill = 0.2 * vector() / vector().norm()
    seen = []

    def function(u):
        seen.append(u.detach().norm(p=math.inf if norm == "linf" else 2))
        return -(u - hill).square().sum()

    climb = ASCENTS[ascent]
    found = top(climb(slope_of(function), Ball(norm, 0.5), torch.zeros_like(hill), 100))
    start = -float(hill.square().sum())
    assert start / 20 < float(found) <= 0
    assert max(seen) <= 0.5 + 1e-12


@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_step_costs_one_gradient_and_the_last_point_one_loss(ascent, steps):
    calls = []
    climb = ASCENTS[ascent]
    a = vector()
    top(climb(slope_of(lambda u: calls.append(0) or a @ u), Ball("linf", 1.0), 0 * a, steps))
    assert len(calls) == steps + 1


def test_the_checkpoints_are_those_of_the_paper():
    # p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of 100
    assert {22, 41, 57, 70, 80, 87, 93, 99} <= _checkpoints(100)
    assert not _checkpoints(100) & set(range(22)) | (_checkpoints(100) & set(range(23, 41)))


def test_auto_ascent_halves_its_step_where_it_overshoots():
    moves = []

    def function(u):
        moves.append(u.detach().clone())
        return -(u.square()).sum()

    start = torch.full((1,), 0.01, dtype=torch.float64)
    top(auto_ascent(slope_of(function), Ball("linf", 1.0), start, 60))
    early, late = ((b - a).abs().max() for a, b in ((moves[1], moves[2]), (moves[-2], moves[-1])))
    assert late < early / 10


def test_random_starts_are_on_the_boundary_and_help():
    double_well = slope_of(lambda u: (u[0] ** 2 * (1 + 0.5 * u[0])).sum())
    like = torch.zeros(1, dtype=torch.float64)
    how = {"ascent": "decaying", "steps": 3}
    alone, helped = (
        highest(double_well, Ball("linf", 1.0), like, corners=k,
                generator=torch.Generator().manual_seed(0), **how)
        for k in (0, 8)
    )  # fmt: skip
    assert float(alone) == 0  # the gradient is zero at the centre
    assert float(helped) == pytest.approx(1.5)
    for norm, p in (("linf", math.inf), ("l2", 2)):
        point = Ball(norm, 0.7).boundary(vector(), torch.Generator().manual_seed(1))
        assert float(point.norm(p=p)) == pytest.approx(0.7)


@pytest.mark.parametrize("ascent", ASCENTS)
def test_only_the_highest_start_climbs_on(ascent):
    points = []

    def function(u):
        points.append(u.detach().clone())
        return (u * vector()).sum() + u.square().sum()

    ball = Ball("linf", 1.0)
    how = {"ascent": ascent, "steps": 20, "corners": 2}
    like = torch.zeros_like(vector())
    found = highest(
        slope_of(function), ball, like, generator=torch.Generator().manual_seed(0), **how
    )
    assert len(points) == 3 * (1 + 5) + 15  # the first checkpoint is at ⌈0.22·20⌉ = 5 steps
    generator = torch.Generator().manual_seed(0)
    starts = [like, *(ball.boundary(like, generator) for _ in range(2))]
    alone = [list(ASCENTS[ascent](slope_of(function), ball, start, 20)) for start in starts]
    leader = max(alone, key=lambda climb: climb[5])
    assert found == leader[-1]
