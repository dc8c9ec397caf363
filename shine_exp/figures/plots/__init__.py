"""One figure or table a file: a class with its name, found by the catalogue."""
