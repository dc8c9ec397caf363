"""Networks on an accelerator: what a graph, compilation and precision give, beside TorchDEQ.

    python scripts/bench/accelerator.py                     a card, at most 6 minutes, no network
    python scripts/bench/accelerator.py --minutes 3 --no-peer
    python scripts/bench/accelerator.py --device cpu --model micro --batch 4 --minutes 2

Without --model: TINY at batch 128, LARGE at 32 and 128. Every row is written to --out, a CSV file,
and printed as soon as it is measured; the most telling come first, and what the minutes did not
suffice for is said at the end. Three kinds of rows:

- correct: of each method, ‖g − g'‖ / ‖g'‖ of the gradient g on the device and g' on the CPU, both
  in float64, of one small cell. SHINE's depends on the solver's path, which rounding moves.
- step: a whole training step with SHINE, injection to Adam, in each precision: eager; `graph`, as
  one CUDA graph; `compiled`, that with the cell compiled, which is measured at the largest batch of
  a model in TF32 and bfloat16 alone, since it takes 20 to 55 s each.
- layer: forward and backward pass of the equilibrium layer alone by each method, and by TorchDEQ's
  solvers on the same cell in the same run, as in deq.py. `graph` has the forward pass alone.

All steps of all solvers are made. Milliseconds are medians of wall time between synchronisations;
`device_ms` and `kernels` are those of one step or pass by PyTorch's profiler; `peak_mib` is what
was allocated at most. On a CPU there are no graphs: `graph` is a run with all that surrounds one.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch._dynamo
from deq_contenders import Contender, Setting, configuration, ours, peers, setting
from deq_measures import once
from hydra.utils import instantiate
from torch import Tensor, nn

from shine_exp.deq import DEQ, Captured
from shine_exp.training.images.image_classification import Batch, ImageClassification
from shine_exp.training.images.mdeq import MDEQ
from shine_exp.training.precision import Precision, autocast, precision
from shine_exp.training.step import TrainingStep, prepare

METHODS = ("shine", "jf", "full", "refine", "neumann", "fallback", "opa")
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
COLUMNS = (
    *("kind", "model", "batch", "precision", "way", "contender"),
    *("forward_ms", "backward_ms", "step_ms", "device_ms", "kernels", "peak_mib"),
    *("error", "loss", "card", "torch"),
)
COSTLY = ("refine", "neumann", "fallback", "opa", "full@anderson")  # measured in float32 alone
Row = dict[str, object]


class Loss(ImageClassification):
    """That of image classification, without data."""

    def __init__(self) -> None:
        pass


def wall(device: torch.device) -> float:
    """Milliseconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * time.perf_counter()


def on_device(function: Callable[[], object], device: torch.device) -> Row:
    """Device time, number of kernels and peak memory of one call; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    torch.cuda.reset_peak_memory_stats(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize(device)
    kernels = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return {
        "device_ms": round(sum(e.device_time for e in kernels) / 1e3, 2),
        "kernels": len(kernels),
        "peak_mib": round(torch.cuda.max_memory_allocated(device) / 2**20),
    }


def correct(model: str, method: str, device: str) -> Row:
    """The error of the device's gradient of a small batch, in float64."""
    gradients = []
    for place in ("cpu", device):
        at = setting(model, 2, 0, "cpu").double()
        at = Setting(
            at.cell.to(place),
            [t.to(place) for t in at.start],
            at.injection.detach().to(place).requires_grad_(),
            [t.to(place) for t in at.r],
        )
        torch.autograd.backward(ours(at, model, method, "solver.max_steps=8").solve(at.cell), at.r)
        found = [leaf.grad.flatten().cpu() for leaf in at.leaves() if leaf.grad is not None]
        gradients.append(torch.cat(found))
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    return {"error": f"{float(error):.1e}"}


def step(model: str, batch: int, name: Precision, way: str, device: str, repeats: int) -> Row:
    """A training step with SHINE on one batch of normal images with random labels."""
    torch.manual_seed(0)
    config = configuration(model, "shine")
    architecture = instantiate(config.problem.architecture)

    def layer(cell: nn.Module) -> DEQ:
        solver, inverse = instantiate(config.solver), instantiate(config.method)
        return DEQ(cell, solver, inverse, tol=0.0, warn_unsolved=False)

    network = MDEQ(architecture, 3, 10, layer).on(device)
    if way == "compiled":
        torch._dynamo.reset()
        network.equilibrium.cell.compile(dynamic=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    prepare(optimizer)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    masks = architecture.dropout_masks(batch, torch.Generator().manual_seed(0))
    given = Batch(images.to(device), labels.to(device), [mask.to(device) for mask in masks])
    train = TrainingStep(
        network, network.equilibrium, optimizer, name, "off" if way == "eager" else "on"
    )
    task, times = Loss(), []
    for _ in range(4):  # to warm up, and to record
        numbers = train(task, given)
    for _ in range(repeats):
        start = wall(train.device)
        numbers = train(task, given)
        times.append(wall(train.device) - start)
    row: Row = {"step_ms": round(statistics.median(times), 2)}
    row["loss"] = f"{float(numbers.found['train_loss']):.4f}"
    return row | on_device(lambda: train(task, given), train.device)


def passes(contender: Contender, at: Setting, name: Precision, repeats: int) -> Row:
    """The forward and the backward pass of a layer."""

    def both() -> tuple[float, float]:
        with autocast(name, at.device):
            return once(contender, at, wall)

    with precision(name):
        both()
        times = [both() for _ in range(repeats)]
        forward, backward = (statistics.median(column) for column in zip(*times, strict=True))
        row: Row = {"forward_ms": round(forward, 2), "backward_ms": round(backward, 2)}
        return row | on_device(both, at.device)


def replayed(contender: Contender, at: Setting, name: Precision, repeats: int) -> Row:
    """The forward pass from a graph, without a gradient."""

    def forward(*_: Tensor) -> list[Tensor]:
        with torch.no_grad(), autocast(name, at.device):
            return list(contender.solve(at.cell))

    captured, times = Captured(forward), []
    with precision(name):
        for _ in range(4):
            captured(at.start)
        for _ in range(repeats):
            start = wall(at.device)
            captured(at.start)
            times.append(wall(at.device) - start)
        row: Row = {"forward_ms": round(statistics.median(times), 2)}
        return row | on_device(lambda: captured(at.start), at.device)


def measurements(options: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """What there is to measure, the most telling first: what it is of, and how it is made."""
    sizes = list(zip(options.model, options.batch, strict=True))
    largest = dict(sorted(sizes, key=lambda size: size[1]))
    device, repeats = options.device, options.repeats
    for method in METHODS:
        place: Row = {"kind": "correct", "model": "micro", "batch": 2, "precision": "float64"}
        yield place | {"contender": method}, lambda m=method: correct("micro", m, device)
    names = PRECISIONS if device != "cpu" else ("float32", "bfloat16")
    ways = [(way, name) for way in ("eager", "graph") for name in names]
    for way, name in ways + [("compiled", name) for name in names if name != "float32"]:
        for model, batch in sizes:
            if way != "compiled" or (options.compiled and largest[model] == batch):
                place = {"kind": "step", "model": model, "batch": batch, "precision": name}
                place |= {"way": way, "contender": "shine"}
                yield place, lambda s=(model, batch, name, way): step(*s, device, repeats)
    for model, batch in sizes:
        at = setting(model, batch, 0, device)
        contenders = [ours(at, model, spec) for spec in (*METHODS, "full@anderson")]
        contenders += [] if options.no_peer else peers(at, model)
        for name in names:
            place = {"kind": "layer", "model": model, "batch": batch, "precision": name}
            shine = place | {"way": "graph", "contender": "shine"}
            yield shine, lambda a=(contenders[0], at, name): replayed(*a, repeats)
            for contender in contenders:
                if contender.name in COSTLY and name != "float32":
                    continue
                one = place | {"way": "eager", "contender": contender.name}
                yield one, lambda a=(contender, at, name): passes(*a, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("accelerator.csv"))
    parser.add_argument("--model", action="append", help="each with its --batch")
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--minutes", type=float, default=5.5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-peer", action="store_true", help="without TorchDEQ")
    parser.add_argument("--no-compile", dest="compiled", action="store_false")
    options = parser.parse_args()
    options.model = options.model or ["tiny", "large", "large"]
    options.batch = options.batch or [128, 128, 32]
    if len(options.model) != len(options.batch):
        parser.error("as many --batch as --model, please")
    on_gpu = options.device != "cpu"
    card = torch.cuda.get_device_name(options.device) if on_gpu else "cpu"
    start, left_out = time.monotonic(), []
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for place, measure in measurements(options):
            if time.monotonic() - start > 60 * options.minutes:
                left_out.append(" ".join(map(str, place.values())))
                continue
            row = place | measure() | {"card": card, "torch": torch.__version__}
            writer.writerow(row)
            file.flush()
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    for what in left_out:
        print(f"left out, for want of time: {what}")


if __name__ == "__main__":
    main()
