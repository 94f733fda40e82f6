"""The operator's API: everything an operator may ask, over the client that the command line uses."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from specie.ecash import MintQuoteRequest
from specie.kernel import InvariantError, PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.server import AdminClient, OperatorActions, build_admin
from specie.server.ports import WorkerActions


@pytest.fixture
def operator(served) -> AdminClient:
    return AdminClient(served.client(app=build_admin(served.context)))


async def test_keysets_are_listed_and_rotated(served, operator):
    """With what is out under each; a rotation makes a new active one with the fee that was asked."""
    await served.purse.mint(100)
    (first,) = await operator.keysets()
    assert (first["issued"], first["redeemed"], first["outstanding"], first["active"]) == (100, 0, 100, True)
    made = await operator.rotate("sat", input_fee_ppk=100, final_expiry=served.house.clock.now() + 1000)
    assert (made["active"], made["input_fee_ppk"]) == (True, 100)
    assert [keyset["active"] for keyset in await operator.keysets()] == [False, True]
    with pytest.raises(RefusedError):
        await operator.rotate("eur")
    with pytest.raises(RefusedError):
        await operator.rotate("sat", final_expiry=5)


async def test_quotes_are_listed_without_their_ids(served, operator):
    """Newest first, both kinds, ids shortened to what identifies and does not give away."""
    quote = await served.house.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 21))
    await served.purse.melt_quote(quote.request)
    found = await operator.quotes(10)
    assert {line["direction"] for line in found} == {"in", "out"}
    assert quote.quote not in str(found)
    assert any(line["quote"] == f"…{quote.quote[-6:]}" for line in found)
    assert len(await operator.quotes(1)) == 1
    for limit in (0, 1001, -1):
        with pytest.raises(RefusedError, match="limit"):
            await operator.quotes(limit)


async def test_books_and_audit(served, operator):
    """The trial balance, and its check against all history."""
    await served.purse.mint(100)
    books = await operator.books()
    assert books["units"] == [{"unit": "sat", "assets": 100, "liabilities": 100, "income": 0, "expense": 0, "outstanding": 100}]
    assert sum(line["balance"] for line in books["accounts"]) == 0
    assert (await operator.audit())["balanced"] is True
    assert (await operator.health())["state"] == "ok"


async def test_an_audit_that_fails_is_told(served):
    """An imbalance is an InvariantError on the operator's side too."""

    class Wrong:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def audit(self):
            raise InvariantError("books differ")

    served.rebuild(mint=Wrong())
    with pytest.raises(InvariantError, match="reference"):
        await AdminClient(served.client(app=build_admin(served.context))).audit()
    assert served.metrics.pages


async def test_actions_are_done_or_refused(served, tmp_path):
    """Backup, settling and stopping go to the hooks of the bank; without a hook they are refused in words."""
    operator = AdminClient(served.client(app=build_admin(served.context)))
    for call in (operator.backup(tmp_path / "copy"), operator.settle("lnbcrt1"), operator.stop()):
        with pytest.raises(RefusedError):
            await call
    done: list[object] = []

    async def backup(path: Path) -> None:
        done.append(path)

    async def settle(request: str, amount_msat: int | None = None) -> None:
        done.append(request)

    actions = OperatorActions(backup, settle, lambda: done.append("stop"))
    served.rebuild(operator=actions)
    operator = AdminClient(served.client(app=build_admin(served.context)))
    assert await operator.backup(tmp_path / "copy") == tmp_path / "copy"
    await operator.settle("lnbcrt1")
    await operator.stop()
    assert done == [tmp_path / "copy", "lnbcrt1", "stop"]
    with pytest.raises(RefusedError, match="absolute"):
        await operator.backup(Path("relative"))
    assert '"action":"/stop"' in served.log.getvalue().replace(" ", "")


async def test_bodies_are_read_strictly(served):
    """Unknown fields, other JSON and long bodies are refused; so are wrong methods and paths."""
    client = served.client(app=build_admin(served.context))
    for body in (b'{"unit":"sat","feee":1}', b"[", b'{"unit":5}', b" " * 70_000):
        assert (await client.post("/keysets/rotate", content=body)).status_code == 400
    assert (await client.get("/stop")).status_code == 405
    assert (await client.get("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(400, json={"detail": "no", "code": 12001}), RefusedError),
        (httpx2.Response(503, json={"detail": "later", "code": 0}), UnavailableError),
        (httpx2.Response(500, json={"detail": "ours", "code": 0}), InvariantError),
        (httpx2.Response(500, text="oops"), PeerFaultError),
        (httpx2.Response(200, text="oops"), PeerFaultError),
        (httpx2.ConnectError("x"), UnavailableError),
        (httpx2.ReadTimeout("x"), UncertainError),
    ],
)
async def test_the_client_sorts_answers_by_what_to_do_next(answer, error):
    """A lost answer to a change is uncertain; no connection is not."""

    def handle(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="http://bank") as client:
        with pytest.raises(error):
            await AdminClient(client).stop()


async def test_a_lost_answer_to_a_question_is_only_unavailable():
    """Nothing happened, whatever it was."""

    def handle(request):
        raise httpx2.ReadError("x")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="http://bank") as client:
        with pytest.raises(UnavailableError):
            await AdminClient(client).books()


async def test_workers_are_restarted_where_there_are_some(served, operator):
    """One process has nothing to replace; one of several asks its supervisor."""
    assert await operator.workers() == {"count": 1, "generation": 0}
    with pytest.raises(RefusedError, match="one process"):
        await operator.restart()
    asked = []
    served.rebuild(operator=OperatorActions(workers=WorkerActions(3, 7, lambda: asked.append(1))))
    several = AdminClient(served.client(app=build_admin(served.context)))
    assert await several.workers() == await several.restart() == {"count": 3, "generation": 7}
    assert asked == [1]


async def test_expired_keysets_are_pruned(served, operator):
    """Counted first, dropped when told to; a grace below a day and a foreign cursor are refused."""
    clock = served.house.clock
    made = await operator.rotate("sat", final_expiry=clock.now() + 1000)
    await served.purse.swap(await served.purse.mint(3), [2, 1])
    await operator.rotate("sat")
    clock.skip(1000 + 2 * 86_400)
    seen = await operator.prune(86_400, act=False)
    assert seen["expired"] == [made["id"]]
    assert seen["cursor"] is None
    assert sorted((row["side"], row["count"], row["total"]) for row in seen["rows"]) == [("issued", 4, 6), ("spent", 2, 3)]
    assert (await operator.prune(86_400, act=True))["rows"] == seen["rows"]
    assert (await operator.prune(86_400, act=True))["rows"] == []
    assert (await operator.audit())["balanced"] is True
    with pytest.raises(RefusedError, match="a day"):
        await operator.prune(5, act=True)
    with pytest.raises(RefusedError, match="cursor"):
        await operator.prune(86_400, act=True, cursor="x")


async def test_a_store_that_cannot_drop_rows_is_told(served):
    """A mint without such a store refuses."""

    class Without:
        pruning = None

    served.rebuild(mint=Without())
    with pytest.raises(RefusedError, match="drop rows"):
        await AdminClient(served.client(app=build_admin(served.context))).prune(86_400, act=True)
