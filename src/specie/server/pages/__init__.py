"""The start page of a bank: HTML made on the server, one file with all it needs, nothing loaded from elsewhere."""

from specie.server.pages.start import FAVICON, StartPage

__all__ = ["FAVICON", "StartPage"]
