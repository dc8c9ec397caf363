"""Training of networks with an equilibrium layer."""
