"""The networks that a training starts from, kept if the trained ones are worse."""

from copy import deepcopy
from shutil import copyfile

from egodepth.core.files import atomic_path
from egodepth.models.networks import Networks
from egodepth.runs.checkpoint import read_run, write_weights
from egodepth.runs.folder import RunFolder
from egodepth.runs.hub import KEPT_FACTS, save_facts
from egodepth.settings.training import TrainSettings
from egodepth.training.start_comparison import Comparison, Views, compare


def is_compared(settings: TrainSettings) -> bool:
    """Whether a training is compared with its start."""
    return (
        settings.init is not None
        and settings.method != "features"
        and bool(settings.data.directions)
    )


class Start:
    """The networks that a training starts from, and held-out frames to compare its end on.

    Attributes:
        init: run that they were read from.
        networks: copies, in evaluation mode; those that ``init`` lacks are left out.
        views: held-out frames.
    """

    def __init__(self, init: RunFolder, networks: Networks, views: list[Views]):
        """Args:
        init, views: see the class.
        networks: of the training, before its first step.
        """
        self.init, self.views = init, views
        self.networks = deepcopy(networks).eval()
        theirs = {name for name, _ in read_run(init)[1].named_children()}
        for name in {name for name, _ in self.networks.named_children()} - theirs:
            setattr(self.networks, name, None)

    def compare(self, trained: Networks) -> Comparison:
        """Compare trained networks with these."""
        was_training = trained.training
        self.networks.to(next(trained.parameters()).device)
        try:
            return compare(self.networks, trained.eval(), self.views)
        finally:
            trained.train(was_training)

    def keep(self, run: RunFolder) -> None:
        """Write these networks into a run's folder, as the run to use in place of it."""
        target = run.start
        target.path.mkdir(exist_ok=True)
        write_weights(self.networks, target.weights)
        save_facts(run, target)
        if self.init.confidence.exists():
            with atomic_path(target.confidence) as partial:
                copyfile(self.init.confidence, partial)
        facts = self.init.facts().only(KEPT_FACTS)
        facts.pop("sizes", None)  # compared at the size of this training
        target.write_facts(facts | {"kept_start": True})
        # With its sources, by which the cameras of this footage are found; last, since it makes it a run.
        with atomic_path(target.config) as partial:
            copyfile(run.config, partial)
