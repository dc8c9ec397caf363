"""Models with a score for each of several classes."""
