"""What an operator does is recorded around its doing, or it is not done."""

from __future__ import annotations

import json
import os
import socket

import pytest

from specie.audit import AuditLog, verify
from specie.audit.adapters.store_sql import MIGRATIONS, SqlAuditStore
from specie.audit.record import record_from_text
from specie.kernel import PeerFaultError, RefusedError, UnavailableError
from specie.server import AdminClient, build_admin
from specie.server.audit_client import AuditClient
from specie.server.operator_peer import _credentials, operator_name, this_user


class Refusing:
    """A store that takes no more records."""

    def __init__(self, storage) -> None:
        self.storage = storage
        self.away = False

    def __getattr__(self, name):
        return getattr(self.storage, name)

    async def transact(self, body):
        if self.away:
            raise UnavailableError("the store is away")
        return await self.storage.transact(body)


@pytest.fixture
async def store(served):
    storage = served.house.storage
    await storage.migrate(MIGRATIONS)
    return Refusing(storage)


@pytest.fixture
def log(served, store):
    made = AuditLog(store, SqlAuditStore(), served.house.clock, telemetry=served.metrics)
    served.rebuild(audit=made)
    return made


@pytest.fixture
def client(served, log):
    return served.client(app=build_admin(served.context))


@pytest.fixture
def operator(client) -> AdminClient:
    return AdminClient(client)


async def told(log):
    return [record_from_text(row.text) for row in await log.records()]


async def test_a_verb_is_recorded_before_and_after(served, operator, log):
    """Who, what, to what and how it ended, with the members that are meant to be recorded."""
    await operator.rotate("sat", input_fee_ppk=7)
    with pytest.raises(RefusedError):
        await operator.rotate("eur")
    records = await told(log)
    assert [(one.verb, one.subject, one.outcome) for one in records] == [
        ("keyset.rotate", "sat", "begun"),
        ("keyset.rotate", "sat", "done"),
        ("keyset.rotate", "eur", "begun"),
        ("keyset.rotate", "eur", "refused"),
    ]
    assert records[0].actor == "operator"
    assert records[0].detail == {"input_fee_ppk": 7, "final_expiry": None}
    assert records[3].detail["error"] == "UnitUnsupportedError"


async def test_a_verb_that_cannot_be_recorded_is_not_done(served, operator, log, store):
    """The store refuses the record: no rotation, an answer that says so, and all is well afterwards."""
    store.away = True
    with pytest.raises(UnavailableError, match="away"):
        await operator.rotate("sat")
    assert len(served.house.mint.keysets()) == 1
    store.away = False
    assert await told(log) == []
    await operator.rotate("sat")
    assert len(served.house.mint.keysets()) == 2


async def test_reading_is_not_recorded_and_counting_is_not_either(served, operator, log):
    """GET changes nothing; neither does a prune that only counts."""
    await operator.keysets()
    await operator.books()
    await operator.prune(86_400, act=False)
    assert await told(log) == []
    await operator.prune(86_400, act=True)
    assert [one.verb for one in await told(log)] == ["keyset.prune"] * 2


async def test_only_named_members_of_a_body_are_recorded(served, client, operator, log, tmp_path):
    """An invoice, a token in a path, a member that nobody knows, a body of nonsense: none of it is in the log."""
    token = "cashuBo2F0" + "a" * 60
    for path, body in (
        ("/play/settle", json.dumps({"request": "lnbcrt1" + "q" * 60, "amount_msat": 5, "more": "secret-1"})),
        ("/backup", json.dumps({"path": f"/tmp/{token}"})),
        ("/keysets/rotate", json.dumps({"unit": ["secret-2"], "input_fee_ppk": {"a": "secret-3"}})),
        ("/keysets/rotate", "nonsense secret-4"),
        ("/keysets/rotate", json.dumps(["secret-5"])),
        ("/keysets/rotate", json.dumps({"unit": "x" * 5000})),
    ):
        assert (await client.post(path, content=body)).status_code >= 400
    rows = await log.records()
    text = " ".join(row.text for row in rows)
    assert len(rows) == 12
    assert "secret-" not in text
    assert "qqqq" not in text
    assert "aaaa" not in text
    assert all(len(row.text) < 2000 for row in rows)
    assert (await client.post("/stop", content=b"x" * 70_000)).status_code == 400
    assert len(await log.records()) == 12


async def test_the_log_is_read_through_the_socket(served, operator, log):
    """Records, checkpoints and head as they lie in the store; a checkpoint on demand."""
    reader = AuditClient(operator)
    assert await reader.head() is None
    await operator.rotate("sat")
    made = await reader.checkpoint()
    assert made is not None
    report = verify(await reader.records(), checkpoints=await reader.checkpoints(), head=await reader.head())
    assert (report.holds, report.count) == (True, 4)
    assert await reader.records(after=3, limit=5000) == (await log.records())[3:]
    assert [count for count, _ in await reader.checkpoints(after=2, limit=1)] == [3]
    with pytest.raises(RefusedError, match="number"):
        await operator.audit_log("records", after="x")


async def test_a_bank_without_a_log_says_so(served):
    """Faces that stand alone keep none."""
    reader = AuditClient(AdminClient(served.client(app=build_admin(served.context))))
    with pytest.raises(RefusedError, match="no audit log"):
        await reader.records()


async def test_an_empty_log_has_no_checkpoint_and_nonsense_is_no_log():
    """What a bank answers is not believed before it is read."""

    class Answers:
        def __init__(self, answer):
            self.answer = answer

        async def audit_log(self, what, **query):
            return self.answer

        async def audit_checkpoint(self):
            return self.answer

    assert await AuditClient(Answers({"checkpoint": None})).checkpoint() is None
    for call in (
        AuditClient(Answers({"checkpoint": {"at": 1}})).checkpoint(),
        AuditClient(Answers({"checkpoint": {"at": 1, "count": 0, "head": "00" * 32, "root": "00" * 32}})).checkpoint(),
        AuditClient(Answers({"records": [{"sequence": "x"}]})).records(),
        AuditClient(Answers({"checkpoints": [3]})).checkpoints(),
        AuditClient(Answers({"head": {"count": 1, "hash": "zz", "peaks": ""}})).head(),
    ):
        with pytest.raises(PeerFaultError):
            await call


def test_the_kernel_says_who_asks():
    """The user and process at the other end of a unix socket; nothing where there is no such socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert _credentials(ours) == (os.getpid(), os.getuid())
    assert _credentials(ours) is None
    assert _credentials(None) is None
    assert operator_name(this_user()[0]).startswith("operator ")
    assert operator_name("uid 4294967000") == "operator (uid 4294967000)"
    assert operator_name("127.0.0.1") == operator_name("uid x") == operator_name("") == "operator"
    assert operator_name("uid " + "9" * 30) == f"operator (uid {'9' * 30})"
