"""What every command of `fraud` shares: where it prints, and which options it takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.progress import Bars

# Of this stream, whatever is put in its place while Feast prints.
# Into a file or a pipe, tables are as wide as they need to be: no name is cut.
_WIDE = 240
console = Console(file=sys.stdout, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
bars = Bars(console)

Home = Annotated[Path, typer.Option("--home", help="Folder of this run's data, models and logs.")]
DEFAULT_HOME = Path(".local/demo")
RedisUrl = Annotated[str, typer.Option(help="Redis address.")]
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379"
