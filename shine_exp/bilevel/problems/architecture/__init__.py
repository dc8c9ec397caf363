"""The operations of a small network."""
