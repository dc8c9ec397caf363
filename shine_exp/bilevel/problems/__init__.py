"""The bi-level problems that come with the package."""
