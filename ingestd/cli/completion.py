"""`ingestd completion`: prints the script that completes commands, flags and values in a shell."""

import click
from click.shell_completion import shell_complete

#: The script sets this variable and runs ingestd to ask which words can follow.
VARIABLE = "_INGESTD_COMPLETE"

EXAMPLES = """\
examples:
  ingestd completion bash > ~/.local/share/bash-completion/completions/ingestd
  ingestd completion zsh > ~/.zfunc/_ingestd
  ingestd completion fish > ~/.config/fish/completions/ingestd.fish

In bash and zsh, for the current shell only: eval "$(ingestd completion bash)"
"""

FLAGS: list[click.Parameter] = [click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))]


def run(shell: str) -> int:
    """Print the script of `shell`."""
    return complete(click.get_current_context().find_root().command, f"{shell}_source")


def complete(program: click.Command, instruction: str) -> int:
    """Answer a script; `instruction` is the value of `VARIABLE`, such as "bash_complete". Returns the exit code."""
    return shell_complete(program, {}, "ingestd", VARIABLE, instruction)
