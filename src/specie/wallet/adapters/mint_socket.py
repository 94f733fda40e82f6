"""The connection of a mint's WebSocket (NUT-17); its library is loaded with the first subscription."""

from __future__ import annotations

from websockets.asyncio.client import connect

__all__ = ["MintSocket"]


class MintSocket(connect):
    """A WebSocket connection that goes where it was told and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """No redirect."""
        return exc
