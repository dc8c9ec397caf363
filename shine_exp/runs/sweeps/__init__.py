"""Sweeps: which runs they have, who makes them, and what became of them."""
