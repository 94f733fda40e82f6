"""Answers of the bank's own HTTP face to questions below /v1, without sockets, for clients that know no HTTP."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import httpx2

from specie.ecash import wire
from specie.mint import Mint, MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankFacts, ServerContext, build_app


async def answered(
    mint: Mint, verb: str, path: Sequence[str], content: bytes | None = None, query: Mapping[str, int] | None = None
) -> bytes:
    """The body of an answer; a refusal is raised as the wallet would read it."""
    clock = mint._context.clock
    metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), io.StringIO()), clock.now, version="9")
    context = ServerContext(
        mint=mint,
        facts=BankFacts(version="specie 9", rails=()),
        settings=ServerSettings(),
        limits=MintSettings().limits,
        metrics=metrics,
        health=Health(metrics, clock.now, clock.monotonic),
        clock=clock,
        entropy=mint._context.entropy,
    )
    transport = httpx2.ASGITransport(app=build_app(context), client=("127.0.0.1", 5000), raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://mint.test") as client:
        response = await client.request(verb, "/".join(("/v1", *path)), content=content, params=dict(query or {}))
    if response.status_code != 200:
        raise wire.error_from_json(response.content)
    return response.content
