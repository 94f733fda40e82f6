"""Settings through the operator's socket, and in the faces: swapped as one, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from specie.kernel.errors import InvariantError, RefusedError, UnavailableError
from specie.ops.reload import SettingsRefusedError
from specie.ops.revision import Change, Outcome, Revision
from specie.ops.settings import RateSettings, ServerSettings
from specie.server import AdminClient, OperatorActions
from specie.server.admin import build_admin
from specie.server.peers import RateLimiter
from specie.server.ports import ConfigActions, WorkerActions
from tests.support.served import Served

ONE = Revision(1, "", 1_700_000_000, "start", Outcome.APPLIED, (), {"mint.name": '"one"'}, {"mint": {"name": "one"}}, ())
TWO = replace(ONE, number=2, outcome=Outcome.REFUSED, reasons=("a", "b"), changes=(Change("mint.name", "1", "2", True),))


class Actions:
    """What a bank does with its settings, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def history(self, limit: int) -> Sequence[Revision]:
        return [TWO, ONE][:limit]

    async def find(self, number: int) -> Revision | None:
        return {1: ONE, 2: TWO}.get(number)

    async def running(self) -> tuple[int | None, Mapping[str, str]]:
        return 1, ONE.settings

    async def check(self, file: Path | None) -> Mapping[str, object]:
        self.asked.append(file)
        return {"problems": [], "changes": [], "restart": []}

    async def apply(self, author: str) -> Revision:
        self.asked.append(author)
        if author == "eve":
            raise SettingsRefusedError(["server.port needs a restart", "and more"])
        if author == "away":
            raise UnavailableError("the store is away")
        return ONE

    async def rollback(self, number: int, author: str) -> Revision:
        self.asked.append((number, author))
        return ONE


@pytest.fixture
async def asked(served: Served):
    """A client of the operator's application, its actions, and the bank."""
    actions = Actions()
    config = ConfigActions(actions.history, actions.find, actions.running, actions.check, actions.apply, actions.rollback)
    served.context.operator = OperatorActions(config=config)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=build_admin(served.context)), base_url="http://bank"
    ) as client:
        yield AdminClient(client), actions, served, client


async def test_revisions_are_seen_and_taken(asked):
    """Every question and its answer, as the client gives them."""
    client, actions, _, _ = asked
    assert await client.config() == {"revision": 1, "settings": {"mint.name": '"one"'}, "live": True}
    assert [item["number"] for item in await client.revisions()] == [2, 1]
    assert (await client.revisions(1))[0]["reasons"] == ["a", "b"]
    two = await client.revision(2)
    assert two["changes"] == [{"key": "mint.name", "before": "1", "after": "2", "live": True}]
    assert two["document"] == {"mint": {"name": "one"}}
    assert (await client.check_config())["restart"] == []
    await client.check_config(Path("/x/bank.toml"))
    assert (await client.apply_config("alice"))["outcome"] == "applied"
    assert (await client.rollback_config(1, "bob"))["number"] == 1
    assert actions.asked == [None, Path("/x/bank.toml"), "alice", (1, "bob")]


async def test_refusals_and_malformed_questions_are_told(asked):
    """All reasons of a refusal; an unknown number, a relative path, a body too long or of another shape."""
    client, _, _, raw = asked
    with pytest.raises(RefusedError, match="needs a restart\nand more"):
        await client.apply_config("eve")
    with pytest.raises(UnavailableError, match="away"):
        await client.apply_config("away")
    with pytest.raises(RefusedError, match="no revision 9"):
        await client.revision(9)
    with pytest.raises(RefusedError, match="absolute"):
        await client.check_config(Path("bank.toml"))
    for text in ("0", "-1", "x", "", "99999999999999999999", "٣"):
        assert (await raw.get("/config/revision", params={"number": text})).status_code == 400
    assert (await raw.post("/config/apply", content=b"x" * 70_000)).status_code == 400
    assert (await raw.post("/config/rollback", json={"author": "x"})).status_code == 400


async def test_where_settings_cannot_be_taken_it_is_said_why(asked):
    """No bank runs, several processes, or settings of another program."""
    client, _, served, _ = asked
    seen = replace(served.context.operator.config, check=None, apply=None, rollback=None)
    served.context.operator = OperatorActions(config=seen)
    assert (await client.config())["live"] is False
    for ask in (client.check_config(), client.apply_config("a"), client.rollback_config(1, "a")):
        with pytest.raises(RefusedError, match="no bank runs here"):
            await ask
    served.context.operator = OperatorActions(config=seen, workers=WorkerActions(3, 1, lambda: None))
    with pytest.raises(RefusedError, match=r"3 processes.*specie mint restart"):
        await client.apply_config("a")
    served.context.operator = OperatorActions()
    with pytest.raises(RefusedError, match="the program it runs in"):
        await client.config()


async def test_the_http_face_takes_other_settings_at_once(served):
    """Limits, proxies and sizes hold for the next request; undone, the old ones do."""
    client = served.client("203.0.113.9")
    near = served.client("10.0.0.1", **{"x-forwarded-for": "203.0.113.9"})
    assert (await client.get("/v1/keysets")).status_code == 200
    tight = ServerSettings(trusted_proxies=("10.0.0.0/8",), rate=RateSettings(requests_per_minute=1, burst=1))
    swap = served.app.prepare(tight)
    assert [(await client.get("/v1/keysets")).status_code for _ in range(3)] == [200] * 3
    swap.do()
    assert served.context.settings is tight
    assert (await client.get("/v1/keysets")).status_code == 429  # it has used up more than this already
    new = served.client("203.0.113.7")
    assert [(await new.get("/v1/keysets")).status_code for _ in range(2)] == [200, 429]
    assert (await near.get("/v1/keysets")).status_code == 429  # the proxy is trusted now: the same peer
    swap.undo()
    assert (await client.get("/v1/keysets")).status_code == 200
    assert (await near.get("/v1/keysets")).status_code == 200
    with pytest.raises(ValueError, match="network"):
        served.app.prepare(ServerSettings(trusted_proxies=("no network",)))


def test_a_limiter_goes_on_under_other_rules():
    """What is used up stays so; a smaller memory forgets the longest silent."""
    limiter = RateLimiter(60, 2, 10)
    assert [limiter.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    limiter.change(60, 3, 10)
    assert limiter.take("a", 0.0) == 0.0
    assert limiter.take("a", 0.0) == 1.0
    limiter.take("b", 0.0)
    limiter.change(0, 1, 1)
    assert len(limiter) == 1
    assert limiter.take("a", 0.0) == 0.0
    limiter.change(60, 1, 1)
    assert limiter.take("b", 0.0) > 0.0


async def test_a_mint_takes_bounds_and_refuses_another_identity(served):
    """Live settings hold for the next quote and in its info; others are our mistake."""
    mint = served.house.mint
    mint.adopt(replace(mint.settings, name="other", mint_max=7))
    assert mint.info().name == "other"
    client = served.client()
    asked = await client.post("/v1/mint/quote/bolt11", json={"amount": 8, "unit": "sat"})
    assert asked.status_code == 400
    assert asked.json()["code"] == 11006
    for changes in ({"units": ("msat",)}, {"keyset_version": 0}, {"limits": replace(mint.settings.limits, array_length=1)}):
        with pytest.raises(InvariantError, match="cannot change while the mint runs"):
            mint.adopt(replace(mint.settings, **changes))
    assert mint.settings.units == ("sat",)
