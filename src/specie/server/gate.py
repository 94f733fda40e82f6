"""Lets a request in by its authentication (NUT-21, NUT-22), before anything of it is worked on or any stored answer is given.

What is protected is compared with the path that is routed, so that no other spelling of it passes; HEAD counts as GET. A
clear token is looked at first: it costs no write. Not here: what tokens are worth (`mint.Auth`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from specie.ecash.auth import is_protected
from specie.ecash.codes import BlindAuthRequiredError, ClearAuthRequiredError
from specie.kernel.errors import RefusedError, UnavailableError
from specie.kernel.telemetry import Telemetry
from specie.server.http import Scope
from specie.server.peers import header
from specie.server.ports import AuthFace

__all__ = ["Gate"]


class Gate:
    """The check in front of one bank's handlers; there is none where everybody may use the mint."""

    def __init__(self, auth: AuthFace, telemetry: Telemetry) -> None:
        self._auth = auth
        self._telemetry = telemetry

    def protects(self, scope: Scope, method: str) -> bool:
        """Whether a request needs any authentication: its answer is then nobody else's, caches on the way included."""
        auth, path = self._auth, scope["path"]
        return is_protected(auth.clear_endpoints, method, path) or is_protected(auth.blind_endpoints, method, path)

    async def known(self, scope: Scope, method: str) -> str:
        """The user that the request's clear token names, or "" where none is needed.

        ClearAuthRequiredError (30001), ClearAuthFailedError (30002); UnavailableError while nobody can tell.
        """
        if not is_protected(self._auth.clear_endpoints, method, scope["path"]):
            return ""
        token = header(scope, b"clear-auth").strip()
        if not token:
            raise ClearAuthRequiredError
        return await self._auth.clear(token)

    @contextlib.asynccontextmanager
    async def admitted(self, scope: Scope, method: str) -> AsyncIterator[str]:
        """Run a request that may run, on its blind token if it needs one; gives the user of its clear token, or "".

        Besides what `known` raises: BlindAuthRequiredError (31001), BlindAuthFailedError (31002).
        """
        method = "GET" if method == "HEAD" else method
        async with contextlib.AsyncExitStack() as stack:
            try:
                subject = await self.known(scope, method)
                if is_protected(self._auth.blind_endpoints, method, scope["path"]):
                    token = header(scope, b"blind-auth").strip()
                    if not token:
                        raise BlindAuthRequiredError
                    await stack.enter_async_context(self._auth.spending(token))
            except (RefusedError, UnavailableError) as error:
                self._telemetry.count("auth_refused", error=type(error).__name__)
                raise
            yield subject
