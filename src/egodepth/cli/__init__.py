"""The command line: it parses and calls the library, and prints every known error as one line."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from egodepth.cli.output import START_OVER, complain
from egodepth.core.errors import EgodepthError, EgodepthWarning, one_line
from egodepth.core.memory import is_out_of_memory
from egodepth.core.progress import reporting
from egodepth.core.quiet import quiet_loggers
from egodepth.core.signals import command_signals, exit_status, was_received

FAILED, MISUSED = 1, 2
"""Exit statuses after an error and after wrong usage."""
OUT_OF_MEMORY = "out of memory: raise the limit (ulimit -v), or choose smaller images or batches"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: words of the command; by default those of this process, whose signals are handled until it
            ends: see :mod:`egodepth.core.signals`.
    """
    with command_signals(own=arguments is None):
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt as stop:
            complain(str(stop) or f"interrupted; nothing is left half written; {START_OVER}")
            return exit_status()
        except Exception as error:
            if was_received():  # code of another package made another error of it
                reason = " ".join(str(error).split()) or type(error).__name__
                complain(f"interrupted ({reason}); {START_OVER}")
                return exit_status()
            if is_out_of_memory(error):
                complain(OUT_OF_MEMORY)
                return FAILED
            raise


def _run(words: list[str]) -> int:
    from egodepth.cli.parsing import UsageError, make_app, parse

    quiet_loggers()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        if not words:
            make_app(with_settings=False).help_print()
            return MISUSED
        with warnings.catch_warnings(), reporting():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # warnings of other packages do not help users
            warnings.simplefilter("always", EgodepthWarning)
            command = parse(words)
            return 0 if command is None else command.run()
    except UsageError as error:
        complain(str(error))
        return MISUSED
    except EgodepthError as error:
        complain(str(error))
        return FAILED
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        complain(f"I/O error{where}: {error.strerror or error}")
        return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, EgodepthWarning):
        print(f"egodepth: {one_line(str(message))}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *where[:2]), file=sys.stderr, end="")
