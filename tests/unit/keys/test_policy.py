"""What keys may be used for: states, hours and limits, and a signer that keeps to them across its own death."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.kernel.errors import InvariantError, MalformedError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY
from specie.keys import BlindedKey, KeysetRef, PolicyRefusedError, ProofToVerify, ToBlindSign
from specie.keys.adapters.policy_file import ReservationFile, policy_from_file
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.engine.guarded import GuardedSigner
from specie.keys.policy import KeyState, Rule, Usage, Verb, allowed, parsed_hours, why_not
from tests.support.entropy import CountingEntropy

SAT, USD = KeysetRef("sat", 0), KeysetRef("usd", 0)
NOON = 1_800_014_400 - 1_800_014_400 % 86_400 + 12 * 3600
DIGEST = bytes(32)


class Clock:
    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> int:
        return self.at


class Shelf:
    """Reservations in memory; counts how often they are written, and refuses when told."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[int, int]] = {}
        self.saved = 0
        self.broken = False

    def load(self) -> dict[str, dict[int, int]]:
        return {name: dict(amounts) for name, amounts in self.kept.items()}

    def save(self, amounts: dict[str, dict[int, int]]) -> None:
        if self.broken:
            raise UnavailableError("disk full")
        self.saved += 1
        self.kept = {name: dict(mine) for name, mine in amounts.items()}


class Log:
    def __init__(self) -> None:
        self.facts: list[dict[str, object]] = []
        self.count = NULL_TELEMETRY.count
        self.observe = NULL_TELEMETRY.observe
        self.page = NULL_TELEMETRY.page

    def event(self, name: str, /, **facts: object) -> None:
        self.facts.append({"name": name, **facts})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def guarded(clock: Clock, shelf: Any, *rules: Rule, log: Any = NULL_TELEMETRY) -> GuardedSigner:
    inner = SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy())
    return GuardedSigner(inner, rules, shelf, clock=clock, telemetry=log)  # type: ignore[arg-type]  # only `now` is asked


def message(keyset: KeysetRef, amount: int, name: str = "a coin") -> ToBlindSign:
    return ToBlindSign(keyset, amount, blind(name, b"\x07" * 32))


async def coin(signer: GuardedSigner, keyset: KeysetRef, amount: int) -> ProofToVerify:
    keys = await signer._inner.keyset_public_keys(keyset, [amount])
    (signed,) = await signer._inner.blind_sign([message(keyset, amount)])
    return ProofToVerify(keyset, amount, b"a coin", unblind(signed.c_, b"\x07" * 32, keys[amount]))


async def uses(signer: GuardedSigner) -> dict[str, bool]:
    """Every verb of the port: whether it is allowed."""
    inner = signer._inner
    good = await coin(signer, SAT, 2)
    sealed = await inner.wrap(b"x", context=b"c")
    blinded = BlindedKey("node", hash_to_curve(b"e"), 0, hash_to_curve(b"k"))
    calls = {
        "keyset_public_keys": lambda: signer.keyset_public_keys(SAT, [1]),
        "public_key": lambda: signer.public_key("node"),
        "public_key of a mint key": lambda: signer.public_key("mint/sat/0/1"),
        "verify_proofs": lambda: signer.verify_proofs([good]),
        "blind_sign": lambda: signer.blind_sign([message(SAT, 1)]),
        "exchange": lambda: signer.exchange([good], [message(SAT, 2)]),
        "sign_schnorr": lambda: signer.sign_schnorr("node", [DIGEST]),
        "sign_recoverable": lambda: signer.sign_recoverable("node", [DIGEST]),
        "own_blinded": lambda: signer.own_blinded([blinded]),
        "derive_secrets": lambda: signer.derive_secrets("00ad268c4d1f5826", [0]),
        "wrap": lambda: signer.wrap(b"x", context=b"c"),
        "unwrap": lambda: signer.unwrap(sealed, context=b"c"),
    }
    found = {}
    for name, call in calls.items():
        try:
            await call()  # type: ignore[no-untyped-call]
        except PolicyRefusedError:
            found[name] = False
        else:
            found[name] = True
    return found


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (KeyState.ACTIVE, None),
        (KeyState.PRE_ACTIVE, {"keyset_public_keys", "public_key", "public_key of a mint key", "own_blinded"}),
        (
            KeyState.SUSPENDED,
            {"keyset_public_keys", "public_key", "public_key of a mint key", "own_blinded", "verify_proofs", "unwrap"},
        ),
        (KeyState.DESTROYED, set()),
    ],
)
async def test_states(clock: Clock, shelf: Shelf, state: KeyState, expected: set[str] | None) -> None:
    """Each state allows exactly the verbs of its row in the module's table; what is active may do everything."""
    found = await uses(guarded(clock, shelf, Rule("all", ("*",), state)))
    assert {name for name, good in found.items() if good} == (set(found) if expected is None else expected)


async def test_deactivated_is_suspended_for_good() -> None:
    """Both allow the same."""
    assert allowed(KeyState.DEACTIVATED) == allowed(KeyState.SUSPENDED)


async def test_keys_that_no_rule_names_are_free(clock: Clock, shelf: Shelf) -> None:
    """A rule holds for the keys its patterns name: a whole unit, one keyset, one ref."""
    signer = guarded(
        clock, shelf, Rule("no sat", ("mint/sat/*",), KeyState.SUSPENDED), Rule("no node", ("node",), KeyState.DESTROYED)
    )
    await signer.blind_sign([message(USD, 1)])
    await signer.public_key("nostr/0")
    for call in (signer.blind_sign([message(USD, 1), message(SAT, 1)]), signer.public_key("node")):
        with pytest.raises(PolicyRefusedError):
            await call
    assert (await signer.public_key("mint/sat/0/1"))[0] in (2, 3)
    assert signer.capabilities().bdhke
    with pytest.raises(PolicyRefusedError, match="rule no node: its keys are destroyed"):
        await signer.sign_blinded(BlindedKey("node", hash_to_curve(b"e"), 0, hash_to_curve(b"k")), [DIGEST])
    await signer.close()


async def test_verbs_of_a_rule(clock: Clock, shelf: Shelf) -> None:
    """A rule may allow less than its state: judging without issuing."""
    signer = guarded(clock, shelf, Rule("look", ("mint/*",), verbs=frozenset({Verb.JUDGE})))
    good = await coin(signer, SAT, 2)
    assert await signer.verify_proofs([good]) == [hash_to_curve(b"a coin")]
    for call in (signer.exchange([good], [message(SAT, 2)]), signer.keyset_public_keys(SAT, [1])):
        with pytest.raises(PolicyRefusedError, match="rule look: its keys may not"):
            await call


async def test_amounts_an_hour(clock: Clock, shelf: Shelf) -> None:
    """What is issued counts, swaps of equal sums do not; room comes back after an hour, and the refusal says when."""
    log = Log()
    signer = guarded(clock, shelf, Rule("100", ("mint/sat/*",), amount_an_hour=100), log=log)
    await signer.blind_sign([message(SAT, 64)])
    clock.at += 600
    await signer.blind_sign([message(SAT, 32)])
    good = await coin(signer, SAT, 64)
    for _ in range(5):
        await signer.exchange([good], [message(SAT, 32), message(SAT, 32, "b")])
    with pytest.raises(PolicyRefusedError, match="rule 100: 8 more would be above its 100 an hour") as refused:
        await signer.blind_sign([message(SAT, 8)])
    assert refused.value.rule == "100"
    assert refused.value.retry_after_s == 3000
    assert log.facts == [
        {"name": "policy_refused", "rule": "100", "verb": "issue", "keys": ["mint/sat/0"], "reason": refused.value.detail[10:]}
    ]
    await signer.blind_sign([message(SAT, 4)])
    with pytest.raises(PolicyRefusedError):
        await signer.exchange([good], [message(SAT, 64), message(SAT, 1, "b")])
    with pytest.raises(PolicyRefusedError) as never:
        await signer.blind_sign([message(SAT, 128)])
    assert never.value.retry_after_s is None
    clock.at += 3000
    await signer.blind_sign([message(SAT, 64)])
    await signer.blind_sign([message(USD, 1 << 40)])


async def test_units_do_not_pay_for_each_other(clock: Clock, shelf: Shelf) -> None:
    """Coins of one unit that come in do not cover what goes out in another; two keysets of one unit cover each other."""
    signer = guarded(clock, shelf, Rule("none", ("mint/*",), amount_an_hour=0))
    good = await coin(signer, USD, 64)
    with pytest.raises(PolicyRefusedError):
        await signer.exchange([good], [message(SAT, 64)])
    await signer.exchange([good], [message(KeysetRef("usd", 1), 64)])
    await signer.exchange([good], [message(USD, 32), message(KeysetRef("usd", 1), 16)])


async def test_another_name_of_a_unit_is_no_way_round(clock: Clock, shelf: Shelf) -> None:
    """Keys are derived by 31 bits of a unit's hash: a text that has the same bits as a unit of the rules is refused."""
    signer = guarded(clock, shelf, Rule("10", ("mint/u2168/*",), amount_an_hour=10))
    named, alias = KeysetRef("u2168", 0), KeysetRef("u5637", 0)
    assert await signer._inner.keyset_public_keys(named, [1]) == await signer._inner.keyset_public_keys(alias, [1])
    for call in (
        signer.blind_sign([message(alias, 1 << 20)]),
        signer.keyset_public_keys(alias, [1]),
        signer.public_key("mint/u5637/0/1"),
        signer.exchange([], [message(alias, 1)]),
    ):
        with pytest.raises(PolicyRefusedError, match="keys of another"):
            await call
    await signer.blind_sign([message(named, 8)])
    await signer.blind_sign([message(SAT, 1 << 20)])


async def test_coins_of_other_keysets_cover_nothing(clock: Clock, shelf: Shelf) -> None:
    """What comes in from a keyset that the rule does not name does not pay for what goes out of one that it names."""
    signer = guarded(clock, shelf, Rule("10", ("mint/sat/1",), amount_an_hour=10))
    good = await coin(signer, KeysetRef("sat", 777), 64)
    with pytest.raises(PolicyRefusedError):
        await signer.exchange([good], [message(KeysetRef("sat", 1), 64)])
    await signer.exchange([good], [message(KeysetRef("sat", 2), 64)])


async def test_a_signer_can_always_prove_itself(clock: Clock, shelf: Shelf) -> None:
    """The key by which a signer is told from others is under no rule."""
    signer = guarded(clock, shelf, Rule("none", ("*",), KeyState.DESTROYED))
    assert len(await signer.public_key("signer")) == 33
    assert len(await signer.sign_recoverable("signer", [DIGEST])) == 1


async def test_killing_it_makes_no_room(clock: Clock, shelf: Shelf) -> None:
    """A signer that starts again counts what it had reserved; it reserves a share ahead, so it writes seldom."""
    rule = Rule("6400", ("mint/sat/*",), amount_an_hour=6400)
    signer = guarded(clock, shelf, rule)
    for _ in range(100):
        await signer.blind_sign([message(SAT, 1)])
    assert shelf.saved == 1
    await signer.blind_sign([message(SAT, 4096)])
    again = guarded(clock, shelf, rule)
    with pytest.raises(PolicyRefusedError):
        await again.blind_sign([message(SAT, 4096)])
    await again.blind_sign([message(SAT, 2048)])
    clock.at += 3600
    await guarded(clock, shelf, rule).blind_sign([message(SAT, 4096)])
    assert sum(sum(amounts.values()) for amounts in shelf.kept.values()) == 4096


async def test_nothing_is_signed_where_nothing_can_be_reserved(clock: Clock, shelf: Shelf) -> None:
    """A disk that refuses stops what is limited, and counts nothing."""
    signer = guarded(clock, shelf, Rule("100", ("mint/sat/*",), amount_an_hour=100))
    shelf.broken = True
    with pytest.raises(UnavailableError):
        await signer.blind_sign([message(SAT, 64)])
    await signer.blind_sign([message(USD, 64)])
    shelf.broken = False
    await signer.blind_sign([message(SAT, 64)])


async def test_calls_a_minute(clock: Clock, shelf: Shelf) -> None:
    """Calls count whatever is in them, an exchange once; the next minute has its own."""
    signer = guarded(clock, shelf, Rule("2", ("*",), calls_a_minute=2))
    good = await coin(signer, SAT, 2)
    await signer.exchange([good], [message(SAT, 2)])
    await signer.public_key("node")
    clock.at += 59
    with pytest.raises(PolicyRefusedError, match="2 calls a minute are used up") as refused:
        await signer.public_key("node")
    assert refused.value.retry_after_s == 1
    clock.at += 1
    await signer.public_key("node")
    clock.at -= 120
    await signer.public_key("node")
    with pytest.raises(PolicyRefusedError):
        await signer.public_key("node")


@pytest.mark.parametrize(
    ("hours", "at", "wait_s"),
    [
        ("08:00-20:00", 12 * 3600, 0),
        ("08:00-20:00", 8 * 3600, 0),
        ("08:00-20:00", 20 * 3600, 12 * 3600),
        ("08:00-20:00", 7 * 3600 + 59 * 60 + 59, 1),
        ("22:00-06:00", 23 * 3600, 0),
        ("22:00-06:00", 5 * 3600, 0),
        ("22:00-06:00", 12 * 3600 + 30, 10 * 3600 - 30),
    ],
)
def test_hours(hours: str, at: int, wait_s: int) -> None:
    """Hours of the UTC day, over midnight too; the refusal says how long to wait."""
    rule = Rule("hours", ("*",), hours=parsed_hours(hours))
    found = why_not(rule, Usage(), Verb.SIGN, 0, 1_800_057_600 - 1_800_057_600 % 86_400 + at)
    assert found == ((f"its hours are {hours} UTC", float(wait_s)) if wait_s else None)


@pytest.mark.parametrize("text", ["", "8:00-20:00", "08:00-24:00", "08:00", "08:00-08:00", "08:60-09:00", "08:00-20:00 "])
def test_hours_that_are_none(text: str) -> None:
    """Anything but two times of the day."""
    assert parsed_hours(text) is None


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 60)), max_size=60), st.integers(1, 200))
def test_no_hour_is_above_its_limit(steps: list[tuple[int, int]], limit: int) -> None:
    """Whatever is asked when: of what was allowed, no 59 minutes together hold more than the limit."""
    rule, usage, now = Rule("r", ("*",), amount_an_hour=limit), Usage(), NOON
    given_out: list[tuple[int, int]] = []
    for pause, amount in steps:
        now += pause
        if why_not(rule, usage, Verb.ISSUE, amount, now) is None:
            usage.used(now // 60, amount)
            given_out.append((now, amount))
    for start, _ in given_out:
        assert sum(amount for at, amount in given_out if start <= at < start + 59 * 60) <= limit


def test_limits_below_zero_are_mistakes() -> None:
    """A rule with a limit below zero is a mistake of the caller."""
    with pytest.raises(InvariantError):
        Rule("r", ("*",), amount_an_hour=-1)


GOOD = """
[[rule]]
name = "sat, at most a million an hour"
keys = ["mint/sat/*"]
hours = "08:00-20:00"
verbs = ["issue", "judge", "public"]
calls_a_minute = 6000
amount_an_hour = 1_000_000

[[rule]]
name = "the old keyset"
keys = ["mint/sat/0"]
state = "deactivated"
"""


def test_a_policy_is_read(tmp_path: Path) -> None:
    """Every field of a rule; what is not given is what allows."""
    file = tmp_path / "policy.toml"
    file.write_text(GOOD)
    assert policy_from_file(file) == (
        Rule(
            "sat, at most a million an hour",
            ("mint/sat/*",),
            KeyState.ACTIVE,
            frozenset({Verb.ISSUE, Verb.JUDGE, Verb.PUBLIC}),
            (480, 1200),
            6000,
            1_000_000,
        ),
        Rule("the old keyset", ("mint/sat/0",), KeyState.DEACTIVATED),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no \\[\\[rule\\]\\]"),
        ("x = 1\n" + GOOD, "x: is not known here"),
        ("rule = 1", "a list of at most"),
        ("[[rule]]\n" * 300, "a list of at most"),
        ("rule = [1]", "rule 1: name is needed"),
        ("[[rule]]\nname = 'a'", "rule 1: keys is needed"),
        ("[[rule]]\nname = 'a'\nkeys = 'mint/*'", "rule 1: keys is a list of texts"),
        ("[[rule]]\nname = 'a'\nkeys = ['mint/s*/1']", 'keys are "\\*"'),
        ("[[rule]]\nname = 'a'\nkeys = ['m*']", 'keys are "\\*"'),
        ("[[rule]]\nname = 'a'\nkeys = ['mint']", 'keys are "\\*"'),
        ("[[rule]]\nname = 'a'\nkeys = ['mint/sat/x']", 'keys are "\\*"'),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nstate = 'asleep'", "'asleep' is not known; known are pre-active, active"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nverbs = ['steal']", "'steal' is not known"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nverbs = 'sign'", "verbs is a list of texts"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nhours = '8-20'", "hours are two times"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nhours = 8", "hours are two times"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\namount_an_hour = -1", "amount_an_hour is a whole number"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\ncalls_a_minute = true", "calls_a_minute is a whole number"),
        ("[[rule]]\nname = 'a'\nkeys = ['*']\nlimit = 1", "limit is not known here"),
        (GOOD + GOOD, "rule 3: another rule has the name"),
        ("[[rule]", "the policy"),
        ("# " + "x" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_a_policy_that_is_not_good(tmp_path: Path, text: str, problem: str) -> None:
    """Each problem is named with its rule; nothing of such a file is used."""
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(MalformedError, match=problem):
        policy_from_file(file)


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    """A signer that was told of a policy does not run without it."""
    with pytest.raises(UnavailableError, match="No such file"):
        policy_from_file(tmp_path / "policy.toml")


def test_reservations_are_kept(tmp_path: Path) -> None:
    """What was saved is loaded, by nobody else; nothing was saved at first."""
    file = ReservationFile(tmp_path / "reserved.json")
    assert file.load() == {}
    file.save({"a": {1: 2, 3: 4}})
    file.save({"a": {3: 4}, "b": {}})
    assert file.load() == {"a": {3: 4}, "b": {}}
    assert (tmp_path / "reserved.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["reserved.json"]


@pytest.mark.parametrize(
    "damaged", ["", "[]", "{", '{"a": 1}', '{"a": {"x": 1}}', '{"a": {"1": -1}}', '{"a": {"1": true}}', "[" * 9999]
)
def test_damaged_reservations_are_no_reservations(tmp_path: Path, damaged: str) -> None:
    """A damaged file is never taken for an empty one."""
    (tmp_path / "reserved.json").write_text(damaged)
    with pytest.raises(MalformedError, match="damaged"):
        ReservationFile(tmp_path / "reserved.json").load()


def test_reservations_that_cannot_be_kept(tmp_path: Path) -> None:
    """A place that cannot be read or written says so; what stood before stands."""
    (tmp_path / "reserved.json").mkdir()
    file = ReservationFile(tmp_path / "reserved.json")
    with pytest.raises(UnavailableError, match="cannot read"):
        file.load()
    with pytest.raises(UnavailableError, match="cannot write"):
        file.save({})
