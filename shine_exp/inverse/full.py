"""The adjoint system solved to the tolerance of the outer step, whatever its shape."""
