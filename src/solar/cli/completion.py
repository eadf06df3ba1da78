"""`solar completion`."""

from __future__ import annotations

import click

_READ = {
    "bash": '# In ~/.bashrc: eval "$(solar completion bash)"',
    "zsh": '# In ~/.zshrc: eval "$(solar completion zsh)"',
    "fish": "# In ~/.config/fish/config.fish: solar completion fish | source",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_READ)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the commands and flags of solar.

    In ~/.bashrc or ~/.zshrc: eval "$(solar completion bash)"; in fish: solar completion fish | source
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"there is no completion for {shell}")
    print(_READ[shell])
    print(found(context.find_root().command, {}, "solar", "_SOLAR_COMPLETE").source())
