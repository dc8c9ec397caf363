"""Linear models with one loss per margin."""
