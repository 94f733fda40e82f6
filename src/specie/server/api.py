"""The Cashu API over HTTP: a small route table in front of `mint`, bodies read and written by `ecash.wire`.

Any content type is taken for JSON, as wallets differ. Browser wallets of any origin may call it; there are no cookies
and no credentials to steal. Not here: WebSockets (`subscriptions`), and every decision about money.
"""

from __future__ import annotations

from hashlib import sha256

from specie.ecash import wire
from specie.ecash.keyset import Keyset
from specie.server.errors import Answer, NoRouteError
from specie.server.front import UNKNOWN, Front, Route
from specie.server.http import SECURITY_HEADERS, Receive, Request, Scope, Send, send_answer
from specie.server.liabilities import LiabilityRoutes
from specie.server.peers import header
from specie.server.ports import AuthFace, ServerContext

__all__ = ["CashuApi"]

_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"ETag, Retry-After"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_SHARED = (*_CORS, *SECURITY_HEADERS)
_NO_STORE = (b"cache-control", b"no-store")
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"Access-Control-Request-Headers"),
]


class CashuApi:
    """ASGI application for the paths under /v1 (HTTP only)."""

    def __init__(self, context: ServerContext, front: Front) -> None:
        self._context = context
        self._mint = context.mint
        self._limits = context.limits
        self._front = front
        self._liabilities = LiabilityRoutes(context.mint, context.limits)
        self._lookup = Route("/v1/mint/quote/{method}/pubkey", {"POST": self._find_mint_quotes})
        self._keys_kept: dict[str, tuple[tuple[object, ...], Answer]] = {}
        self._exact = {
            "/v1/info": Route("/v1/info", {"GET": self._info}),
            "/v1/keys": Route("/v1/keys", {"GET": self._keys}),
            "/v1/keysets": Route("/v1/keysets", {"GET": self._keysets}),
            "/v1/swap": Route("/v1/swap", {"POST": self._swap}),
            "/v1/checkstate": Route("/v1/checkstate", {"POST": self._check_state}),
            "/v1/restore": Route("/v1/restore", {"POST": self._restore}),
        }
        self._by_shape = {
            ("keys", 1): Route("/v1/keys/{id}", {"GET": self._keyset}),
            ("mint", 1): Route("/v1/mint/{method}", {"POST": self._issue}),
            ("melt", 1): Route("/v1/melt/{method}", {"POST": self._melt}),
            ("mint/quote", 1): Route("/v1/mint/quote/{method}", {"POST": self._new_mint_quote}, quote=True),
            ("melt/quote", 1): Route("/v1/melt/quote/{method}", {"POST": self._new_melt_quote}, quote=True),
            ("mint/batch", 1): Route("/v1/mint/{method}/batch", {"POST": self._issue_batch}),
            ("mint/check", 1): Route("/v1/mint/quote/{method}/check", {"POST": self._check_mint_quotes}, quote=True),
            ("mint/quote", 2): Route("/v1/mint/quote/{method}/{id}", {"GET": self._mint_quote}),
            ("melt/quote", 2): Route("/v1/melt/quote/{method}/{id}", {"GET": self._melt_quote}),
        }
        self._auth = context.auth if context.auth is not None and context.auth.blind_endpoints else None
        if self._auth is not None:
            self._exact["/v1/auth/blind/keys"] = Route("/v1/auth/blind/keys", {"GET": self._auth_keys})
            self._exact["/v1/auth/blind/keysets"] = Route("/v1/auth/blind/keysets", {"GET": self._auth_keysets})
            self._exact["/v1/auth/blind/mint"] = Route("/v1/auth/blind/mint", {"POST": self._auth_mint})
            self._auth_keyset_route = Route("/v1/auth/blind/keys/{id}", {"GET": self._auth_keyset})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, parts = self.route(scope["path"])
        if scope["method"] == "OPTIONS" and route is not UNKNOWN:
            await send_answer(send, Answer(b"", 204, [*_PREFLIGHT, (b"allow", route.allowed.encode())]), _SHARED)
            return
        await self._front.answer(scope, receive, send, route, parts, shared=_SHARED)

    def route(self, path: str) -> tuple[Route, tuple[str, ...]]:
        """The route of a path, and the parts of the path that vary."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, ()
        pieces = path.split("/")[2:]
        if not all(pieces) or len(pieces) > 4:
            return UNKNOWN, ()
        if pieces[0] == "pol":
            return self._liabilities.route(pieces[1:])
        if len(pieces) == 4 and pieces[3] == "pubkey" and pieces[:2] == ["mint", "quote"]:
            return self._lookup, (pieces[2],)
        if len(pieces) == 4 and pieces[:2] == ["mint", "quote"] and pieces[3] == "check":  # never the id of a quote
            return self._by_shape["mint/check", 1], (pieces[2],)
        if self._auth is not None and len(pieces) == 4 and pieces[:3] == ["auth", "blind", "keys"]:
            return self._auth_keyset_route, (pieces[3],)
        if len(pieces) >= 3 and pieces[1] == "quote":
            return self._by_shape.get((f"{pieces[0]}/quote", len(pieces) - 2), UNKNOWN), tuple(pieces[2:])
        if len(pieces) == 3 and pieces[0] == "mint" and pieces[2] == "batch":
            return self._by_shape["mint/batch", 1], (pieces[1],)
        return self._by_shape.get((pieces[0], len(pieces) - 1), UNKNOWN), tuple(pieces[1:])

    # -- what anyone may read -----------------------------------------------------------------------------------------

    async def _info(self, request: Request) -> Answer:
        return Answer(wire.info_to_json(self._mint.info()), headers=[(b"cache-control", b"no-cache")])

    async def _keys(self, request: Request) -> Answer:
        return self._kept(request, "keys", [keyset for keyset in self._mint.keysets() if keyset.active], 60, keys=True)

    async def _keyset(self, request: Request) -> Answer:
        keyset = self._mint.keyset(request.parts[0])
        return self._kept(request, keyset.id, [keyset], 3600, keys=True)

    async def _keysets(self, request: Request) -> Answer:
        return self._kept(request, "keysets", list(self._mint.keysets()), 15, keys=False)

    def _kept(self, request: Request, name: str, keysets: list[Keyset], max_age_s: int, *, keys: bool) -> Answer:
        """Keys are large and seldom change: the body is made once, and not sent to a reader who has it."""
        mark = tuple((keyset.id, keyset.active, keyset.input_fee_ppk, keyset.final_expiry) for keyset in keysets)
        known = self._keys_kept.get(name)
        if known is None or known[0] != mark:
            body = wire.keys_to_json(keysets) if keys else wire.keysets_to_json(keysets)
            tag = f'"{sha256(body).hexdigest()[:32]}"'.encode()
            fresh = Answer(body, headers=[(b"cache-control", f"public, max-age={max_age_s}".encode()), (b"etag", tag)])
            known = self._keys_kept[name] = (mark, fresh)
        answer = known[1]
        if self._front.gate is not None and self._front.gate.protects(request.scope, "GET"):
            return Answer(answer.body, headers=[_NO_STORE])
        wanted = header(request.scope, b"if-none-match")
        if wanted and (wanted == "*" or answer.headers[1][1].decode() in wanted):
            return Answer(b"", 304, answer.headers)
        return answer

    # -- verbs --------------------------------------------------------------------------------------------------------

    async def _swap(self, request: Request) -> Answer:
        asked = wire.swap_request_from_json(await request.body(), limits=self._limits)
        return Answer(wire.signatures_to_json(await self._mint.swap(asked)), headers=[_NO_STORE])

    async def _issue(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.mint_request_from_json(await request.body(), method=method, limits=self._limits)
        return Answer(wire.signatures_to_json(await self._mint.issue(asked)), headers=[_NO_STORE])

    async def _issue_batch(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.mint_batch_request_from_json(await request.body(), method=method, limits=self._limits)
        return Answer(wire.signatures_to_json(await self._mint.issue_batch(asked)), headers=[_NO_STORE])

    async def _check_mint_quotes(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.quote_check_request_from_json(await request.body(), limits=self._limits)
        return Answer(wire.mint_quotes_to_json(await self._mint.check_mint_quotes(asked, method)), headers=[_NO_STORE])

    async def _melt(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.melt_request_from_json(await request.body(), method=method, limits=self._limits)
        return Answer(wire.melt_quote_to_json(await self._mint.melt(asked)), headers=[_NO_STORE])

    async def _new_mint_quote(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.mint_quote_request_from_json(await request.body(), method=method, limits=self._limits)
        return Answer(wire.mint_quote_to_json(await self._mint.request_mint_quote(asked)), headers=[_NO_STORE])

    async def _new_melt_quote(self, request: Request) -> Answer:
        method = wire.method_checked(request.parts[0])
        asked = wire.melt_quote_request_from_json(await request.body(), method=method, limits=self._limits)
        return Answer(wire.melt_quote_to_json(await self._mint.request_melt_quote(asked)), headers=[_NO_STORE])

    async def _mint_quote(self, request: Request) -> Answer:
        method, quote_id = request.parts
        quote = await self._mint.mint_quote(quote_id, wire.method_checked(method))
        return Answer(wire.mint_quote_to_json(quote), headers=[_NO_STORE])

    async def _find_mint_quotes(self, request: Request) -> Answer:
        asked = wire.quote_lookup_from_json(
            await request.body(), method=wire.method_checked(request.parts[0]), limits=self._limits
        )
        return Answer(wire.quote_page_to_json(await self._mint.find_mint_quotes(asked)), headers=[_NO_STORE])

    async def _melt_quote(self, request: Request) -> Answer:
        method, quote_id = request.parts
        quote = await self._mint.melt_quote(quote_id, wire.method_checked(method))
        return Answer(wire.melt_quote_to_json(quote), headers=[_NO_STORE])

    async def _check_state(self, request: Request) -> Answer:
        ys = wire.check_state_request_from_json(await request.body(), limits=self._limits)
        return Answer(wire.states_to_json(await self._mint.check_state(ys)), headers=[_NO_STORE])

    async def _restore(self, request: Request) -> Answer:
        outputs = wire.restore_request_from_json(await request.body(), limits=self._limits)
        return Answer(wire.restore_to_json(await self._mint.restore(outputs)), headers=[_NO_STORE])

    # -- blind authentication (NUT-22); these routes are there only where it is on -----------------------------------

    def _auth_face(self) -> AuthFace:
        if self._auth is None:
            raise NoRouteError("no such path")
        return self._auth

    async def _auth_keys(self, request: Request) -> Answer:
        keysets = [keyset for keyset in self._auth_face().keysets() if keyset.active]
        return self._kept(request, "auth keys", keysets, 60, keys=True)

    async def _auth_keyset(self, request: Request) -> Answer:
        keyset = self._auth_face().keyset(request.parts[0])
        return self._kept(request, f"auth {keyset.id}", [keyset], 3600, keys=True)

    async def _auth_keysets(self, request: Request) -> Answer:
        return self._kept(request, "auth keysets", list(self._auth_face().keysets()), 15, keys=False)

    async def _auth_mint(self, request: Request) -> Answer:
        outputs = wire.auth_mint_request_from_json(await request.body(), limits=self._limits)
        signatures = await self._auth_face().mint(outputs, request.subject)
        return Answer(wire.signatures_to_json(signatures), headers=[_NO_STORE])
