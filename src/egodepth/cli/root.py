"""``egodepth`` without a command."""

from typing import Annotated, Literal

from egodepth.cli.command import Command, Metavar


class Root(Command):
    """Depth and egomotion from plain video, without labels."""

    print_completion: Annotated[Literal["bash", "zsh"] | None, Metavar("SHELL")] = None
    """print the completion script for a shell, bash or zsh"""

    def run(self) -> int:
        """See the class."""
        from egodepth.cli.parsing import make_app

        assert self.print_completion is not None
        print(make_app().generate_completion(shell=self.print_completion))
        return 0
