"""∇h(α): implicit, unrolled, and exact."""
