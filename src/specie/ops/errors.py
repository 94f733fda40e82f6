"""The leaves of the error tree that ops raises."""

from __future__ import annotations

from dataclasses import dataclass

from specie.kernel.errors import RefusedError

__all__ = ["SettingsError", "SettingsProblem"]


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with the settings."""

    source: str
    """Where it was written: a file's path, an environment variable's name, or a command line option."""
    key: str
    """Dotted name of the setting: `server.port`."""
    reason: str
    """What is wrong, and what would be right. Never the value of a secret."""

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: {self.reason}" if self.key else f"{self.source}: {self.reason}"


class SettingsError(RefusedError):
    """The settings cannot be used. All problems are told at once, so that one start finds them all.

    Attributes:
        problems: every problem found, in the order of the sources.
    """

    def __init__(self, problems: list[SettingsProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
