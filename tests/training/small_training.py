"""The command of a network that trains for two epochs of four steps in a second."""

SIZES = (
    "channels=[4,8]",
    "head_channels=[2,2]",
    "final_channels=8",
    "expansion=1",
    "groups=2",
    "dropout=0.25",
)
VALUES = (
    "problem=mdeq",
    *(f"problem.architecture.{size}" for size in SIZES),
    "solver.max_steps=5",
    "data.test_fraction=0.5",
    "problem.batch_size=224",  # four steps an epoch
    "outer.pretrain_steps=1",
    "outer.n_pretrain_unrolled=3",
    "outer.epochs=2",
    "outer.n_power_steps=2",
)


def small(*changes: str) -> tuple[str, ...]:
    """The command, with these values beside its own or in place of them."""
    values = dict(override.split("=", 1) for override in (*VALUES, *changes))
    return tuple(f"{key}={value}" for key, value in values.items())
