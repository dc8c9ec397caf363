"""The count of valid factors, through restarts and back to the best iterate."""

import torch

from shine_exp.solvers.factor_count import FactorCount

BOTH = torch.tensor([True, True])
FIRST = torch.tensor([True, False])
NEITHER = torch.tensor([False, False])


def counted(*events: str) -> FactorCount:
    """Two samples with a memory of 3 after some events.

    At "+" both take in a factor, at "b" the first is at its best iterate, at "r" both restart.
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


def test_factor_count_of_stopped_sample_survives_restart():
    factors = counted("++")
    factors.add(FIRST)
    assert factors.full
    factors.restart(FIRST)
    factors.add(FIRST)
    assert factors.count.tolist() == [1, 2]
    assert factors.valid().tolist() == [[True, False, False], [True, True, False]]


def test_factor_count_in_cycle_excludes_samples_stopped_at_full_memory():
    factors = counted("+++")
    factors.restart(FIRST)
    assert factors.in_cycle(BOTH).tolist() == [True, False]
    assert factors.in_cycle(NEITHER).tolist() == [False, False]


def test_factor_count_rolls_back_to_best_iterate():
    factors = counted("+b++")
    factors.roll_back()
    assert factors.count.tolist() == [1, 0], "the best iterate of the second sample was the start"


def test_factor_count_keeps_cycle_where_best_iterate_lies_before_it():
    factors = counted("++b+r++")
    factors.roll_back()
    assert factors.count.tolist() == [2, 2]


def test_factor_count_keeps_cycle_that_best_iterate_opens():
    factors = counted("+++rb++")
    factors.roll_back()
    assert factors.count.tolist() == [2, 2]
