"""Put a pretrained run into the package, as the run builtin: float16 weights, settings, facts, model card.

    python -m benchmarks.ship RUN

The run is one of egodepth pretrain; look at its scores on held-out worlds and on real footage first.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import load_file, save_file

from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_text
from egodepth.data.synthetic.worlds import pairs
from egodepth.models.networks import Networks
from egodepth.runs.checkpoint import read_run
from egodepth.runs.folder import BUILTIN_FOLDER, RunFolder, read_facts
from egodepth.runs.run import Run
from egodepth.training.held_out_worlds import HeldOutWorlds

MAX_BYTES = 20_000_000
TEMPLATE = "builtin_card.md.jinja"


def ship(source: Path, out: Path, worlds: HeldOutWorlds | None = None) -> dict[str, Any]:
    """Write the run for the package; what its card says.

    Args:
        source: run of ``egodepth pretrain``.
        out: folder to write to.
        worlds: that it is scored on once more, with the weights as they are shipped.

    Raises:
        EgodepthError: another run, or weights that are too large.
    """
    run = RunFolder.at(source).check()
    facts = read_facts(run.facts_file)
    if "rendered_worlds" not in facts or not run.checkpoint.exists():
        raise EgodepthError(f"{source} is no run of egodepth pretrain")
    Run.load(source, "cpu").save_pretrained(out)
    target = RunFolder.to_make(out)
    halve(target.weights)
    size = target.weights.stat().st_size
    if size > MAX_BYTES:
        raise EgodepthError(f"{target.weights} has {size / 1e6:.1f} MB, more than 20")
    settings, networks = read_run(target)
    scores = (worlds or HeldOutWorlds()).score(networks)
    config = run.settings()
    kept = target.facts().model_dump(exclude_unset=True)
    earlier = run.facts().only(("rendered_worlds", "earlier_steps", "earlier_seconds"))
    told = {"commit": facts["commit"], "date": facts["date"], "worlds": scores,
            "sizes": list(pairs.SIZES), **earlier}  # fmt: skip
    target.write_facts({**kept, **told})
    every = {"earlier_steps": 0, "earlier_seconds": 0.0, **facts, **kept, **told}
    values: dict[str, Any] = {
        "facts": every, "scores": scores, "settings": config, "model": settings,
        "difference": _difference(read_run(source)[1], networks),
        "megabytes": size / 1e6, "first_held_out": pairs.HELD_OUT_SEEDS,
    }  # fmt: skip
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True
    )
    write_text(out / "README.md", environment.get_template(TEMPLATE).render(values))
    return values


def halve(weights: Path) -> None:
    """Round weights to float16; the statistics of batch normalisation and scales stay as they are."""
    state = load_file(weights)
    fixed = ("running_mean", "running_var", "num_batches_tracked", "scale")
    rounded = {
        name: value if name.rpartition(".")[2] in fixed else value.half()
        for name, value in state.items()
    }
    save_file(rounded, weights, metadata={"format": "pt"})


@torch.inference_mode()
def _difference(one: Networks, other: Networks) -> float:
    """Median relative difference of two DepthNets' depth, on noise."""
    assert one.depth is not None and other.depth is not None
    image = torch.rand(4, 3, 96, 320, generator=torch.Generator().manual_seed(0))
    ratio = one.depth(image, scales=1)[0] / other.depth(image, scales=1)[0]
    return float(np.median((ratio - 1).abs().numpy()))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=BUILTIN_FOLDER)
    arguments = parser.parse_args()
    values = ship(arguments.run, arguments.out)
    print(json.dumps(values["scores"]["all"]))
    print(f"{arguments.out}: {values['megabytes']:.1f} MB; float16 changes depth by "
          f"{100 * values['difference']:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
