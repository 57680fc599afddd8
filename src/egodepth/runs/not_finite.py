"""The error of a run that predicts what is not finite, with the name of the frame."""

from collections.abc import Iterator
from contextlib import contextmanager

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frame


class NotFiniteError(EgodepthError):
    """A prediction of a run that is not finite.

    Attributes:
        run: name of the run.
        what: what is not finite, in words.
        place: of the image, or of the pair's later one, in its batch.
    """

    def __init__(self, run: str, what: str, place: int, image: str = "an image"):
        super().__init__(
            f"{run} predicts {what} that is not finite for {image}: its weights are broken, as after a "
            "training that diverged; train it again with a lower --learning_rate"
        )
        self.run, self.what, self.place = run, what, place


@contextmanager
def naming(*frames: Frame) -> Iterator[None]:
    """Say in which of these frames, one for each image of the batch, a prediction is not finite."""
    try:
        yield
    except NotFiniteError as error:
        frame = frames[error.place]
        name = f"frame {frame.number}" + (f" ({frame.name})" if frame.name else "")
        raise NotFiniteError(error.run, error.what, error.place, name) from None
