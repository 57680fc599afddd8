"""Put a pretrained run into the package, as the run builtin: float16 weights, settings, facts, model card.

    python -m benchmarks.ship RUN [--features RUN]

The run is one of egodepth pretrain; look at its scores on held-out worlds and on real footage first. A run of
--method features gives FeatureNet.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import load_file, save_file

from egodepth.core.config import save
from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_text
from egodepth.data.synthetic.worlds import pairs
from egodepth.models.networks import Networks
from egodepth.runs.checkpoint import read_run, write_weights
from egodepth.runs.folder import BUILTIN_FOLDER, RunFolder, read_facts
from egodepth.runs.run import Run
from egodepth.settings.model import DEFINED_BY
from egodepth.training.held_out_worlds import HeldOutWorlds

MAX_BYTES = 20_000_000
TEMPLATE = "builtin_card.md.jinja"


def ship(
    source: Path, out: Path, worlds: HeldOutWorlds | None = None, features: Path | None = None
) -> dict[str, Any]:
    """Write the run for the package; what its card says.

    Args:
        source: run of ``egodepth pretrain``.
        out: folder to write to.
        worlds: that it is scored on once more, with the weights as they are shipped.
        features: run whose FeatureNet goes along, of the same pretraining settings.

    Raises:
        EgodepthError: another run, or weights that are too large.
    """
    run = RunFolder.at(source).check()
    facts = read_facts(run.facts_file)
    if "rendered_worlds" not in facts:
        raise EgodepthError(f"{source} is no run of egodepth pretrain")
    if run.path.resolve() == out.resolve():
        raise EgodepthError(f"{source} would be written over itself; name another run or --out")
    Run.load(source, "cpu").save_pretrained(out)
    target = RunFolder.to_make(out)
    config = run.settings()
    if features is not None:
        theirs, found = read_run(features)
        networks = read_run(run)[1]
        networks.features = found.features
        write_weights(networks, target.weights)
        own = {name: getattr(theirs, name) for name in DEFINED_BY["features"]}
        config = config.changed(model=config.model.changed(**own))
    save(config, target.config)
    halve(target.weights)
    size = target.weights.stat().st_size
    if size > MAX_BYTES:
        raise EgodepthError(f"{target.weights} has {size / 1e6:.1f} MB, more than 20")
    settings, networks = read_run(target)
    scores = (worlds or HeldOutWorlds()).score(networks)
    kept = target.facts().model_dump(exclude_unset=True)
    mixed = ("averaged", "imagenet")
    earlier = run.facts().only(("rendered_worlds", "earlier_steps", "earlier_seconds", *mixed))
    told = {"commit": facts["commit"], "date": facts["date"], "worlds": scores,
            "sizes": list(pairs.SIZES), **earlier}  # fmt: skip
    target.write_facts({**kept, **told})
    every = {"earlier_steps": 0, "earlier_seconds": 0.0, "averaged": 1, "imagenet": 0.0,
             **facts, **kept, **told}  # fmt: skip
    values: dict[str, Any] = {
        "facts": every, "scores": scores, "settings": config, "model": settings,
        "difference": _difference(read_run(source)[1], networks),
        "megabytes": size / 1e6, "first_held_out": pairs.HELD_OUT_SEEDS,
        "feature_steps": None if features is None else RunFolder.at(features).facts().steps,
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
    parser.add_argument("--features", type=Path)
    parser.add_argument("--out", type=Path, default=BUILTIN_FOLDER)
    arguments = parser.parse_args()
    values = ship(arguments.run, arguments.out, features=arguments.features)
    print(json.dumps(values["scores"]["all"]))
    print(f"{arguments.out}: {values['megabytes']:.1f} MB; float16 changes depth by "
          f"{100 * values['difference']:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
