"""Inverse methods: ways to u ≈ J⁻ᵀ r, from free to exact. One file, one method."""
