"""`specie config`: the settings of a bank, shown and checked. Reading them is `ops.config`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument

__all__ = ["app"]

app = App(name="config", help="See and check a bank's settings.", help_epilogue="")


@app.command
def example(*, screen: ScreenArgument) -> None:
    """Print a settings file with every setting, what it means and its default."""
    from specie.ops.config import default_config_file, example_toml

    text = example_toml()
    screen.bare({"toml": text, "default_file": str(default_config_file())}, text.rstrip("\n"))


@app.command
def check(
    file: Annotated[Path | None, Parameter(help="Settings file; the default one unless given.")] = None,
    *,
    screen: ScreenArgument,
) -> None:
    """Read the settings file and the environment as `specie up` would, and tell what is wrong."""
    import os

    from rich.text import Text

    from specie.cli.screen import table
    from specie.ops.config import default_config_file, load_settings

    settings = load_settings(file, os.environ)
    read = file or Path(os.environ.get("SPECIE_CONFIG") or default_config_file())
    facts = {
        "file": str(read) if read.exists() else None,
        "data_dir": str(settings.data_dir),
        "host": settings.server.host,
        "port": settings.server.port,
        "store": "postgresql" if settings.store.dsn is not None else str(settings.store_path),
        "rails": [{"kind": rail.kind.value, "play": rail.play} for rail in settings.rails],
        "sealing": settings.keys.sealing.value,
    }
    rails = ", ".join(rail.kind.value + (" (PLAY)" if rail.play else "") for rail in settings.rails)
    rows = [
        ("file", facts["file"] or "none, all defaults"),
        ("data directory", facts["data_dir"]),
        ("listens on", f"{settings.server.host}:{settings.server.port}"),
        ("store", facts["store"]),
        ("rails", rails),
        ("keys sealed by", settings.keys.sealing.value),
    ]
    screen.answer(facts, Text("✓ these settings can be used", "green"), table(("setting", "value"), rows))
