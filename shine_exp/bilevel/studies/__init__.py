"""Studies of the inverse estimates themselves: runs that measure, and move no α."""
