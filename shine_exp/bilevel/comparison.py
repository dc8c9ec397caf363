"""How close one vector is to another, in direction and in length."""

from torch import Tensor


def compare(a: Tensor, b: Tensor) -> dict[str, float]:
    """The cosine of the angle between a and b, of one shape, and ‖a‖ / ‖b‖."""
    a, b = a.flatten(), b.flatten()
    return {
        "cosine": float(a @ b / (a.norm() * b.norm())),
        "norm_ratio": float(a.norm() / b.norm()),
    }
