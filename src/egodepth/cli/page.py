"""The docs page of all commands: ``python -c "from egodepth.cli.page import write; write()"``."""

import re
from pathlib import Path

from egodepth.cli.parsing import COMMANDS, load_command, make_app

HEAD = """# Commands

<!-- made by: .venv/bin/python -c "from egodepth.cli.page import write; write()" -->

RUN is a folder made by `egodepth train` or `egodepth pretrain`, `builtin` (the run that comes with egodepth),
or `hf:OWNER/NAME` on the Hugging Face hub. SOURCE is footage: the path of a video or a folder, a pattern of
paths, `KIND:ROOT` of a [data set](data_sets.md), `synthetic:SEED` or `synthetic:KIND:SEED[:FRAMES]`.
Options may be written with hyphens or underscores. `egodepth COMMAND --help` says what is below;
[Recipes](recipes.md) has what `train` starts from.

| command | what it does |
|---|---|
"""
COMPLETION = """
## Completion in the shell

    egodepth --print-completion bash > ~/.local/share/bash-completion/completions/egodepth
    egodepth --print-completion zsh > ~/.zfunc/_egodepth

For zsh, `~/.zshrc` needs `fpath+=~/.zfunc` before `compinit`. Open a new shell afterwards.

"""


def commands_page() -> str:
    """All commands in a table, then each with its arguments and options, as Markdown."""
    # cyclopts prepends the command's name to a usage line that already has it.
    reference = re.sub(
        r"^egodepth ([\w ]+) \1\b", r"egodepth \1", make_app().generate_docs(), flags=re.M
    )
    usages = dict(
        re.findall(r"^#+ egodepth ([\w ]+)\n\n```console\negodepth (.*)\n```", reference, re.M)
    )
    rows = []
    for name in COMMANDS:
        usage = usages[name].replace("|", r"\|").replace(" [OPTIONS]", "")
        about = (load_command(name).__doc__ or "").partition("\n")[0]
        rows.append(f"| [`egodepth {usage}`](#egodepth-{name.replace(' ', '-')}) | {about} |\n")
    first = reference.index("## egodepth ")
    return HEAD + "".join(rows) + COMPLETION + reference[first:].rstrip() + "\n"


def write(path: str | Path = "docs/commands.md") -> None:
    """Write the page."""
    Path(path).write_text(commands_page(), encoding="utf-8")
