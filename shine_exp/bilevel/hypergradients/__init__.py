"""Ways to the hypergradient ∇h(α): implicit, unrolled, and exact."""

from shine_exp.bilevel.hypergradients.exact import exact_hypergradient
from shine_exp.bilevel.hypergradients.hypergradient import Hypergradient, HypergradientMethod
from shine_exp.bilevel.hypergradients.implicit import Implicit, hypergradient
from shine_exp.bilevel.hypergradients.unrolled import Unrolled

__all__ = [
    "Hypergradient",
    "HypergradientMethod",
    "Implicit",
    "Unrolled",
    "exact_hypergradient",
    "hypergradient",
]
