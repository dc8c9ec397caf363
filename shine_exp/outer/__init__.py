"""Outer loops: ways to move the hyperparameters λ = e^α towards the minimum of the outer loss."""
