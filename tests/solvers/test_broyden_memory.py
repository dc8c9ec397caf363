"""The count of valid factors, through restarts and back to the best iterate."""

import torch

from shine_exp.solvers.factor_count import FactorCount

BOTH = torch.tensor([True, True])
FIRST = torch.tensor([True, False])
NEITHER = torch.tensor([False, False])


def counted(*events: str) -> FactorCount:
    """Two samples with a memory of 3: "+" both learn, "b" the first is at its best, "r" both
    restart.
    """
    factors = FactorCount(2, 3, torch.device("cpu"))
    factors.mark_best(NEITHER)
    for event in "".join(events):
        if event == "+":
            factors.add(BOTH)
        elif event == "b":
            factors.mark_best(FIRST)
        else:
            factors.restart(BOTH)
    return factors


def test_a_stopped_sample_keeps_its_factors_through_the_restart_of_the_others():
    factors = counted("++")
    factors.add(FIRST)
    assert factors.full
    factors.restart(FIRST)
    factors.add(FIRST)
    assert factors.count.tolist() == [1, 2]
    assert factors.valid().tolist() == [[True, False, False], [True, True, False]]


def test_who_may_write_the_next_slot():
    factors = counted("+++")
    factors.restart(FIRST)
    assert factors.in_cycle(BOTH).tolist() == [True, False]
    assert factors.in_cycle(NEITHER).tolist() == [False, False]


def test_factors_after_the_best_iterate_are_dropped():
    factors = counted("+b++")
    factors.roll_back()
    assert factors.count.tolist() == [1, 0], "the best iterate of the second sample was the start"


def test_a_best_iterate_in_a_forgotten_cycle_keeps_all_of_the_present_one():
    factors = counted("++b+r++")
    factors.roll_back()
    assert factors.count.tolist() == [2, 2]


def test_a_best_iterate_that_opens_a_cycle_keeps_all_of_it():
    factors = counted("+++rb++")
    factors.roll_back()
    assert factors.count.tolist() == [2, 2]
