"""A training step against the straightforward formulation: time, memory, and that both say the same.

    .venv/bin/python -m benchmarks.training_step --out docs/results/training_step.json

Full FeatDepth (ResNet-50 for depth and features, ResNet-18 for motion, FeatureNet frozen) at 640x192,
batch 2, three frames, four scales, on random images; the same with ResNet-18, and the loss part alone.
Each variant runs in a process of its own, one after the other; the ratio is that of medians.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.reference_step import reference_losses, reference_objective
from rich.console import Console
from rich.table import Table
from torch import Tensor

from egodepth.core.files import write_json
from egodepth.core.memory import keep_large_allocations
from egodepth.core.provenance import provenance
from egodepth.geometry.camera import Camera
from egodepth.models.networks import Networks
from egodepth.runs.devices import choose_precision
from egodepth.settings.recipes import get_recipe
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.compilation import PLAIN, Comparisons
from egodepth.training.objective import (
    compute_objective,
    features_to_compare,
    warping_terms,
    weighted_sum,
)

HEIGHT, WIDTH, BATCH = 192, 640, 2
ENCODERS = {"R50": "resnet50", "R18": "resnet18"}
TASKS = ("R50", "R18", "losses")
WARM_UP, TIMED = 2, 7


def make_settings(
    encoder: str, size: tuple[int, int] | None = None, batch: int = BATCH
) -> TrainSettings:
    """The published recipe at a height and width (by default 640x192), with weights that need no
    download."""
    recipe = get_recipe("featdepth_kitti_mono")
    height, width = size or (HEIGHT, WIDTH)
    model = {
        "height": height, "width": width, "pretrained": False,
        "depth_encoder": encoder, "feature_encoder": encoder,
    }  # fmt: skip
    return recipe.changed(model=model, batch_size=batch)


def make_networks(settings: TrainSettings) -> Networks:
    """Networks of the recipe with random weights, FeatureNet frozen."""
    torch.manual_seed(0)
    networks = Networks(settings.model, depth=True, pose=True, features=True, reconstructs=False)
    assert networks.features is not None and networks.pose is not None
    networks.features.requires_grad_(False)
    # A fresh PoseNet says that nothing moves; warping by that would be too easy.
    torch.nn.init.normal_(networks.pose.head[-1].bias, std=0.3)
    return networks.train()


def make_images(count: int, height: int, width: int) -> Tensor:
    """Smooth random images (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def make_batch(settings: TrainSettings) -> SnippetBatch:
    """Smooth random images of the recipe's size."""
    height, width, batch = settings.model.height, settings.model.width, settings.batch_size
    frames = make_images(3 * batch, height, width).unflatten(0, (3, batch))
    camera = Camera.from_parameters(370.0, 370.0, 319.5, 95.5, 192, 640).resize(height, width)
    return SnippetBatch(
        frames[0], frames[1:], frames[0], frames[1:],
        Camera(camera.matrix.expand(batch, 3, 3), height, width),
    )  # fmt: skip


def loss_inputs(batch: SnippetBatch) -> tuple[list[Tensor], Tensor]:
    """Inverse depths at four scales and motions, as leaves."""
    count, _, height, width = batch.target.shape
    generator = torch.Generator().manual_seed(1)
    scales = [
        0.5 + torch.rand(count, 1, height >> k, width >> k, generator=generator)
        for k in range(1, 5)
    ]
    motions = torch.eye(4).repeat(2, count, 1, 1)
    motions[..., 0, 3], motions[..., 2, 3] = 0.02, torch.tensor([[0.1], [-0.1]])
    return [s.requires_grad_() for s in scales], motions.requires_grad_()


def make_step(task: str, variant: str, *, exact: bool) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """A forward pass and what it is differentiated by.

    Args:
        task: of TASKS.
        variant: ``reference`` or ``egodepth``.
        exact: float32, to compare; else what a training takes.
    """
    settings = make_settings(ENCODERS.get(task, "resnet50"))
    networks, batch = make_networks(settings), make_batch(settings)
    ours = variant == "egodepth"
    compare = Comparisons.compiled() if ours and not exact else PLAIN
    networks.use_bf16(ours and not exact and choose_precision("auto", "cpu") == "bf16")
    if exact:
        # Batch statistics over all pairs at once and over each by itself would differ.
        networks.eval()
    if ours:
        networks.to(memory_format=torch.channels_last)
    if task == "losses":
        inverse_depths, motions = loss_inputs(batch)
        leaves = [*inverse_depths, motions]

        def losses() -> Tensor:
            if ours:
                features = features_to_compare(networks.features, None, batch, settings)
                terms = warping_terms(
                    features, inverse_depths, motions, batch, settings, 1.0, compare
                )
                return weighted_sum(terms, settings.loss)
            return reference_losses(
                networks.features, inverse_depths, list(motions), batch, settings
            )

        return losses, leaves

    def whole() -> Tensor:
        if ours:
            return compute_objective(networks, batch, settings, 1.0, compare).total
        return reference_objective(networks, batch, settings)

    return whole, [p for p in networks.parameters() if p.requires_grad]


def measure(task: str, variant: str) -> dict[str, Any]:
    """Seconds of the steps, of their forward part, and the peak of memory above what there was before."""
    keep_large_allocations()
    forward, leaves = make_step(task, variant, exact=False)
    optimizer = torch.optim.AdamW(leaves, lr=1e-6, fused=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, forwards = [], []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        total = forward()
        forwards.append(time.perf_counter() - started)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "seconds": seconds[WARM_UP:], "forward": forwards[WARM_UP:], "peak_mb": peak / 1024,
        "first_step": seconds[0],
    }  # fmt: skip


def differences(task: str) -> dict[str, float]:
    """How far loss and gradients of both are apart in float32, relative."""
    results = []
    for variant in ("reference", "egodepth"):
        forward, leaves = make_step(task, variant, exact=True)
        total = forward()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        pairs = zip(gradients, leaves, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        results.append((float(total), flat))
    (loss_a, grad_a), (loss_b, grad_b) = results
    return {
        "loss": abs(loss_a - loss_b) / abs(loss_a),
        "gradient": float((grad_a - grad_b).norm() / grad_a.norm()),
    }


def run_alone(*words: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_step", "--one", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def median(values: list[float]) -> float:
    """Of an odd number."""
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task, what = options.one
        print(json.dumps(differences(task) if what == "differences" else measure(task, what)))
        return
    table = Table("task", "variant", "step (s)", "forward (s)", "peak (MB)", "faster", "memory",
                  "loss, gradient apart")  # fmt: skip
    results: dict[str, Any] = {}
    for task in options.tasks:
        apart = run_alone(task, "differences")
        reference, ours = run_alone(task, "reference"), run_alone(task, "egodepth")
        ratio = median(reference["seconds"]) / median(ours["seconds"])
        memory = ours["peak_mb"] / reference["peak_mb"]
        results[task] = {"reference": reference, "egodepth": ours, "ratio": ratio,
                         "memory_ratio": memory, "differences": apart}  # fmt: skip
        for name, values in (("reference", reference), ("egodepth", ours)):
            last = name == "egodepth"
            table.add_row(task, name, f"{median(values['seconds']):.3f}",
                          f"{median(values['forward']):.3f}", f"{values['peak_mb']:.0f}",
                          f"{ratio:.2f} times" if last else "", f"{memory:.2f} of it" if last else "",
                          f"{apart['loss']:.1e}, {apart['gradient']:.1e}" if last else "")  # fmt: skip
    Console(width=110).print(table)
    if options.out:
        write_json(options.out, {"results": results, **provenance()})


if __name__ == "__main__":
    main()
