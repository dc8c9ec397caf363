"""Image classification with a multiscale deep equilibrium network (MDEQ)."""
