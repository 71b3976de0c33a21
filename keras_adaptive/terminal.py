"""Text for the terminal, as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console, *lines: str, soft_wrap: bool = False) -> None:
    """Prints lines as they are.

    Rich reads `[bold]` and `:smile:` in a string as instructions, and names that users
    choose may look like that.

    Args:
        console: The terminal.
        *lines: The lines.
        soft_wrap: Whether long lines are left to the terminal.
    """
    from rich.text import Text

    console.print(Text("\n".join(lines)), soft_wrap=soft_wrap)
