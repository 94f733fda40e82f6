"""The HTTP face of a bank: `build_app` for TCP, `build_admin` for the operator's socket, `serve` runs both."""

from specie.server.admin import build_admin
from specie.server.admin_client import AdminClient, admin_client
from specie.server.app import BankApp, build_app
from specie.server.ports import BankFacts, MintFace, OperatorActions, RailFacts, ServerContext
from specie.server.run import Listening, serve

__all__ = [
    "AdminClient",
    "BankApp",
    "BankFacts",
    "Listening",
    "MintFace",
    "OperatorActions",
    "RailFacts",
    "ServerContext",
    "admin_client",
    "build_admin",
    "build_app",
    "serve",
]
