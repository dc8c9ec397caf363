"""Bi-level problems: min over α of h(α) = F(α, θ*(α)), θ*(α) = argmin over θ of G(α, θ)."""
