"""Bi-level problems: an inner objective G(λ, θ), an outer one F(θ), and the products that connect them."""
