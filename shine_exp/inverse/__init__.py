"""Inverse methods: ways to the adjoint u ≈ J⁻ᵀr, from free to exact. One file, one method."""
