"""Drafts over HTTP: routes are there only while they are switched on, answers are bounded, and the operator can ask too."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from specie.ecash import MintQuoteRequest, QuoteLookup, quote_lookup_digest, wire
from specie.ecash.liabilities import Side, verify_consistency, verify_epoch, verify_inclusion
from specie.kernel import RefusedError, curve
from specie.mint import Liabilities, MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import AdminClient, BankFacts, ServerContext, build_admin, build_app
from tests.support.house import House, Purse, house

ON = MintSettings(liabilities=True, liabilities_every_s=10_000_000, quote_lookup=True)


@contextlib.asynccontextmanager
async def served(settings: MintSettings) -> AsyncIterator[tuple[House, httpx2.AsyncClient, AdminClient]]:
    """A bank, a client of its API and one of its operator."""
    async with house(settings=settings) as bank:
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), io.StringIO()), bank.clock.now, version="9")
        context = ServerContext(
            mint=bank.mint,
            facts=BankFacts(version="specie 9", rails=()),
            settings=ServerSettings(),
            limits=settings.limits,
            metrics=metrics,
            health=Health(metrics, bank.clock.now, bank.clock.monotonic),
            clock=bank.clock,
            entropy=bank.entropy,
        )

        def client(app: object) -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app=app, client=("127.0.0.1", 5000))  # type: ignore[arg-type]
            return httpx2.AsyncClient(transport=transport, base_url="http://bank")

        async with client(build_app(context)) as public, client(build_admin(context)) as admin:
            yield bank, public, AdminClient(admin)


def log(bank: House) -> Liabilities:
    """The mint's liabilities."""
    assert bank.mint.liabilities is not None
    return bank.mint.liabilities


async def test_nothing_is_there_unless_switched_on() -> None:
    """Every path of the drafts is unknown or refused while the drafts are off, and the operator is told how to switch on."""
    async with served(MintSettings()) as (bank, public, operator):
        keyset = bank.keyset().id
        for path in ("epochs", f"{keyset}/manifest", f"{keyset}/leaves/issued", f"{keyset}/consistency/spent?from=1&to=2"):
            assert (await public.get(f"/v1/pol/{path}")).status_code == 404
        assert (await public.post(f"/v1/pol/{keyset}/proofs/issued", content=b"{}")).status_code == 404
        question = QuoteLookup("bolt11", (curve.public_key(b"\x01" * 32),), (bytes(64),), 1)
        answer = await public.post("/v1/mint/quote/bolt11/pubkey", content=wire.quote_lookup_to_json(question))
        assert answer.status_code == 400
        for work in (operator.epochs, operator.close_epoch, operator.audit_epochs):
            with pytest.raises(RefusedError, match=r"mint\.liabilities"):
                await work()


async def test_epochs_leaves_and_proofs() -> None:
    """Everything a checker needs comes over HTTP and verifies: the list, the draft's manifest, leaves, both kinds of proof."""
    async with served(ON) as (bank, public, operator):
        liabilities, purse, keyset = log(bank), Purse(bank), bank.keyset().id
        await purse.mint(100)
        first = await liabilities.close_epoch()
        coins = await purse.mint(100)
        await purse.swap(coins, [64, 36 - 4, 4])
        second = await liabilities.close_epoch()
        epochs = wire.epochs_from_json((await public.get("/v1/pol/epochs")).content)
        assert epochs[-2:] == (first, second)
        assert wire.epochs_from_json((await public.get(f"/v1/pol/epochs?from={second.number}")).content) == (second,)
        for epoch in epochs:
            verify_epoch(epoch, liabilities.pubkey)
        said = second.keyset(keyset)
        assert said is not None
        manifest = (await public.get(f"/v1/pol/{keyset}/manifest?epoch_index={second.number}")).json()
        assert manifest == (await public.get(f"/v1/pol/{keyset}/manifest")).json()
        assert manifest["outstanding_balance"] == said.outstanding == 200
        assert manifest["global_digest"] == second.digest.hex()
        assert manifest["epoch_keysets"][0]["keyset_id"] == keyset
        assert manifest["signing_pubkey"] == liabilities.pubkey[1:].hex()
        assert "ots_receipt" not in manifest
        leaves = wire.leaves_from_json((await public.get(f"/v1/pol/{keyset}/leaves/issued?from=1")).content)
        assert len(leaves) == said.issued.size - 1
        body = wire.proof_request_to_json(Side.ISSUED, [item for item, _ in leaves])
        answer = await public.post(f"/v1/pol/{keyset}/proofs/issued", content=body)
        proofs = wire.inclusion_from_json(answer.content)
        assert len(proofs) == len(leaves)
        for proof in proofs:
            verify_inclusion(proof, said.issued.size, said.issued.node)
        path = f"/v1/pol/{keyset}/consistency/issued?from={first.number}&to={second.number}"
        before = first.keyset(keyset)
        assert before is not None
        verify_consistency(
            wire.consistency_from_json((await public.get(path)).content),
            (before.issued.size, before.issued.node),
            (said.issued.size, said.issued.node),
        )
        shown = await operator.epochs()
        assert [epoch["number"] for epoch in shown["epochs"]][:2] == [second.number, first.number]
        assert shown["epochs"][0]["outstanding"] == {"sat": 200}
        assert (await operator.close_epoch())["number"] == second.number + 1
        assert (await operator.audit_epochs())["epochs"] == second.number + 1
        proved = await operator.prove(leaves[0][0].hex())
        assert proved["side"] == "issued"
        (proof,) = wire.inclusion_from_json(json.dumps(proved["proof"]).encode())
        verify_inclusion(proof, said.issued.size, said.issued.node)
        with pytest.raises(RefusedError):
            await operator.prove("zz")
        with pytest.raises(RefusedError, match="no log"):
            await operator.prove("02" * 33)


@pytest.mark.parametrize(
    "path",
    [
        "epochs?from=x",
        "epochs?from=-1",
        "epochs?from=1&from=2",
        "epochs?from=99999999999999999",
        "KEYSET/manifest?epoch_index=99",
        "00ff/manifest",
        "KEYSET/consistency/issued?from=1",
        "KEYSET/consistency/issued?from=1&to=1",
        "KEYSET/leaves/issued?epoch_index=77",
    ],
)
async def test_wrong_questions_are_refused(path: str) -> None:
    """Numbers that are none, epochs and keysets that do not exist: 400, never 500."""
    async with served(ON) as (bank, public, _):
        await log(bank).close_epoch()
        answer = await public.get("/v1/pol/" + path.replace("KEYSET", bank.keyset().id))
        assert answer.status_code == 400, answer.content


async def test_paths_of_other_shapes_are_unknown() -> None:
    """Other sides, verbs and depths are no routes; methods are checked."""
    async with served(ON) as (bank, public, _):
        keyset = bank.keyset().id
        for path in ("", "x", f"{keyset}/leaves", f"{keyset}/leaves/other", f"{keyset}/what/issued"):
            assert (await public.get(f"/v1/pol/{path}")).status_code == 404
        assert (await public.post("/v1/pol/epochs")).status_code == 405
        assert (await public.get(f"/v1/pol/{keyset}/proofs/issued")).status_code == 405
        items = wire.proof_request_to_json(Side.ISSUED, [b"\x02" * 33] * 51)
        assert (await public.post(f"/v1/pol/{keyset}/proofs/issued", content=items)).status_code == 400


async def test_a_proof_of_an_unsigned_epoch_waits() -> None:
    """What is decided and not signed is in a log already, and is not proved before it is signed."""
    async with served(ON) as (bank, _, operator):
        liabilities = log(bank)
        await liabilities.close_epoch()
        await Purse(bank).mint(8)
        decided = await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now()))
        await bank.storage.transact(lambda tx: liabilities._commit(tx, decided))
        (item, _), *_ = [
            (leaf.item, leaf.amount)
            for leaf in await bank.storage.read(lambda tx: liabilities._store.leaves(tx, Side.ISSUED, bank.keyset().id, 0, 9))
        ]
        with pytest.raises(RefusedError, match="not signed"):
            await operator.prove(item.hex())


async def test_quotes_are_found_over_http() -> None:
    """The question of a key's owner is answered with the quotes locked to it; a wrong signature has its code."""
    async with served(ON) as (bank, public, _):
        secret = b"\x07" * 32
        key = curve.public_key(secret)
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8, pubkey=key.hex()))
        now = bank.clock.now()
        digest = quote_lookup_digest(bytes.fromhex(bank.mint.info().pubkey or ""), key, now)
        asked = QuoteLookup("bolt11", (key,), (curve.schnorr_sign(digest, secret, bytes(32)),), now)
        answer = await public.post("/v1/mint/quote/bolt11/pubkey", content=wire.quote_lookup_to_json(asked))
        page = wire.quote_page_from_json(answer.content, method="bolt11")
        assert [one.quote for one in page.quotes] == [quote.quote]
        assert answer.json()["next_cursor"] is None
        assert answer.headers["cache-control"] == "no-store"
        wrong = QuoteLookup("bolt11", (key,), (bytes(64),), now)
        answer = await public.post("/v1/mint/quote/bolt11/pubkey", content=wire.quote_lookup_to_json(wrong))
        assert (answer.status_code, answer.json()["code"]) == (400, 20008)
        assert (await public.get("/v1/mint/quote/bolt11/pubkey")).status_code == 405
