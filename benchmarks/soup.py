"""Average the weights of pretrained runs, and move the encoder of DepthNet back towards its ImageNet weights.

    python -m benchmarks.soup RUN [RUN...] --imagenet 0.25 --out OUT

Runs that started from each other lie in one valley of the loss, and their mean is often better on other data
than each of them (Wortsman et al., "Model soups", ICML 2022). An encoder that learned from rendered worlds has
forgotten some of what photos taught it; between both sets of weights lie networks that know both (Wortsman et
al., "Robust fine-tuning of zero-shot models", CVPR 2022). Facts and settings are those of the first run. OUT is
a start for more pretraining (--init), or what benchmarks.ship takes.
"""

import argparse
from pathlib import Path

import torch

from egodepth.models.networks import DepthNet, make_depth_net
from egodepth.runs.checkpoint import read_run, write_weights
from egodepth.runs.folder import RunFolder


def average(sources: list[str], imagenet: float, out: Path) -> None:
    """Write the mean of runs.

    Args:
        sources: runs with the same networks, whose encoders began from ImageNet weights.
        imagenet: share of the ImageNet weights in DepthNet's encoder.
        out: folder to make.
    """
    run = RunFolder.at(sources[0])
    settings, networks = read_run(run)
    first = make_depth_net(settings.changed(pretrained=True))
    assert isinstance(first, DepthNet) and isinstance(networks.depth, DepthNet)
    states = [read_run(source)[1].state_dict() for source in sources]
    pretrained = first.encoder.state_dict()
    with torch.no_grad():
        for name, value in networks.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name].float() for state in states]).mean(0))
        for name, value in networks.depth.encoder.state_dict().items():
            if value.is_floating_point():
                value.lerp_(pretrained[name], imagenet)
    out.mkdir(parents=True)
    target = RunFolder.to_make(out)
    write_weights(networks, target.weights)
    target.config.write_bytes(run.config.read_bytes())
    facts = run.facts().model_dump(exclude_unset=True)
    target.write_facts({**facts, "averaged": len(sources), "imagenet": imagenet})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--imagenet", type=float, default=0.0, help="share of ImageNet's weights")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    average(options.runs, options.imagenet, options.out)


if __name__ == "__main__":
    main()
