"""Where wallets live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.errors import MalformedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["wallet_directory", "wallet_names"]


def wallet_directory(name: str | Path = "default", *, home: Path | None = None) -> Path:
    """Where a wallet lives: a `Path` stands for itself, a name is below `wallets` in the user's data home.

    MalformedError for a name that is not 1 to 64 letters, digits, '.', '_' and '-', or begins with a dot.
    """
    if not isinstance(name, str):
        return name
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (0 < len(name) <= 64 and plain.isascii() and plain.isalnum()) or name.startswith("."):
        raise MalformedError("a wallet's name has 1 to 64 letters, digits, '.', '_' and '-'")
    return _wallets(home) / name


def wallet_names(*, home: Path | None = None) -> list[str]:
    """Names of the wallets in the user's data home, sorted."""
    base = _wallets(home)
    return sorted(path.parent.name for path in base.glob("*/wallet.seed")) if base.is_dir() else []


def _wallets(home: Path | None) -> Path:
    if home is None:
        import platformdirs

        home = platformdirs.user_data_path("specie", appauthor=False)
    return home / "wallets"
