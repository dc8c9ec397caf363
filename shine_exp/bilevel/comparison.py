"""How close one vector is to another."""

from torch import Tensor


def compare(a: Tensor, b: Tensor) -> dict[str, float]:
    """Cosine of the angle between a and b (d,), and ‖a‖ / ‖b‖."""
    return {
        "cosine": float(a @ b / (a.norm() * b.norm())),
        "norm_ratio": float(a.norm() / b.norm()),
    }
