"""Keyset ids of both versions, their short forms, fees, expiry; blank outputs; derivation by version."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash.blank import blank_count, change_amounts
from specie.ecash.codes import KeysetUnknownError
from specie.ecash.derivation import derive, derive_v1, derive_v2, p2pk_secret_key, quote_secret_key
from specie.ecash.keyset import (
    derive_keyset_id,
    fee_for,
    is_expired,
    keyset_id_checked,
    resolve_keyset_id,
    short_keyset_id,
    verify_keyset_id,
)
from specie.kernel.errors import MalformedError
from tests.support.coins import make_keyset, public_key

KEYSET = make_keyset(amounts=3, fee=100, expiry=2_000_000_000)
V1 = derive_keyset_id(0, unit="sat", keys=KEYSET.keys)
SEED = bytes(range(64))


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "usd"},
        {"input_fee_ppk": 101},
        {"input_fee_ppk": 0},
        {"final_expiry": None},
        {"final_expiry": 2_000_000_001},
        {"keys": {1: public_key("x")}},
        {"keys": {}},
        {"keys": {0: public_key("x")}},
        {"keys": {1: b"\x02" + b"\xff" * 32}},
        {"keys": {1: public_key("x")[:32]}},
        {"id": "01" + "00" * 32},
    ],
)
def test_an_id_commits_to_all_of_the_keyset(change: dict[str, object]) -> None:
    """Whatever a mint changes after the fact is found."""
    verify_keyset_id(KEYSET)
    with pytest.raises(MalformedError):
        verify_keyset_id(msgspec.structs.replace(KEYSET, **change))


def test_old_ids_verify_by_their_keys_alone() -> None:
    """Version 00 commits to keys, in numeric order of amount; the base64 ids before it never verify."""
    old = msgspec.structs.replace(KEYSET, id=V1)
    verify_keyset_id(old)
    verify_keyset_id(msgspec.structs.replace(old, keys=dict(reversed(KEYSET.keys.items())), input_fee_ppk=7))
    with pytest.raises(MalformedError):
        verify_keyset_id(msgspec.structs.replace(KEYSET, id="eGnEWtdJ0PIM"))


def test_ids_of_unknown_versions_are_not_derived() -> None:
    """A version is added, never assumed."""
    with pytest.raises(MalformedError):
        derive_keyset_id(2, unit="sat", keys=KEYSET.keys)
    with pytest.raises(MalformedError):
        derive_keyset_id(1, unit="sat", keys={})


def test_unit_case_and_absent_values_do_not_change_an_id() -> None:
    """`SAT` is `sat`; a fee of 0 and an expiry of None or 0 are left out."""
    plain = derive_keyset_id(1, unit="sat", keys=KEYSET.keys)
    assert derive_keyset_id(1, unit="SAT", keys=KEYSET.keys, input_fee_ppk=0, final_expiry=0) == plain != KEYSET.id


def test_two_ids_of_one_beginning_are_ambiguous() -> None:
    """A short id that names two keysets is refused; one that names none is unknown."""
    twin = KEYSET.id[:16] + "0" * 50
    short = short_keyset_id(KEYSET.id)
    assert resolve_keyset_id(short.upper(), [KEYSET.id, V1]) == KEYSET.id
    assert resolve_keyset_id(KEYSET.id, [KEYSET.id, twin]) == KEYSET.id
    with pytest.raises(MalformedError):
        resolve_keyset_id(short, [KEYSET.id, twin])
    with pytest.raises(KeysetUnknownError):
        resolve_keyset_id(short, [V1])


def test_base64_ids_stand_for_themselves() -> None:
    """Ids from before 2023 are found as text, in their own case."""
    assert resolve_keyset_id("eGnEWtdJ0PIM", ["eGnEWtdJ0PIM", V1]) == "eGnEWtdJ0PIM"
    with pytest.raises(KeysetUnknownError):
        resolve_keyset_id("egnewtdj0pim", ["eGnEWtdJ0PIM"])


def test_an_old_id_is_never_taken_for_a_short_one() -> None:
    """Version 00 ids are whole: a longer id with the same beginning is another keyset."""
    with pytest.raises(KeysetUnknownError):
        resolve_keyset_id(V1, [V1 + "00" * 25])


@pytest.mark.parametrize("text", ["", "00", "01" * 32 + "0g", "0" * 15, "ff" * 8, "01" * 8])
def test_what_is_no_full_id_is_refused(text: str) -> None:
    """Length, version and hex."""
    with pytest.raises(MalformedError):
        keyset_id_checked(text)


def test_expiry_has_passed_after_its_second() -> None:
    """At the second itself the keyset is still good; without expiry it is for good."""
    assert not is_expired(KEYSET, 2_000_000_000)
    assert is_expired(KEYSET.info, 2_000_000_001)
    assert not is_expired(make_keyset(amounts=1), 2**60)


def test_info_is_the_keyset_without_keys() -> None:
    """Nothing else is lost."""
    info = KEYSET.info
    assert (info.id, info.unit, info.active) == (KEYSET.id, "sat", True)
    assert (info.input_fee_ppk, info.final_expiry) == (100, 2_000_000_000)


def test_fees_are_rounded_up_once() -> None:
    """No inputs cost nothing; a thousandth costs one."""
    assert [fee_for([]), fee_for([0, 0]), fee_for([1]), fee_for([999, 1]), fee_for([999, 2])] == [0, 0, 1, 1, 2]


def test_change_prefers_large_coins() -> None:
    """With too few outputs the mint keeps least; with none it keeps all; odd denominations are used."""
    powers = [2**i for i in range(64)]
    assert change_amounts(15, 2, powers) == [4, 8]
    assert change_amounts(15, 0, powers) == []
    assert change_amounts(0, 5, powers) == []
    assert change_amounts(14, 5, [5, 0, 1]) == [1, 1, 1, 1, 5, 5][1:]
    assert change_amounts(3, 5, [5]) == []
    with pytest.raises(MalformedError):
        change_amounts(-1, 1, powers)


def test_blank_outputs_need_a_reserve() -> None:
    """A negative reserve is refused; the largest needs 64."""
    assert blank_count(2**64 - 1) == 64
    assert [blank_count(n) for n in (0, 1, 2, 3, 4, 5)] == [0, 1, 1, 2, 2, 3]
    with pytest.raises(MalformedError):
        blank_count(-1)


def test_derivation_follows_the_version() -> None:
    """A 00 keyset derives by BIP 32, a 01 keyset by HMAC; each counter and keyset has its own secrets."""
    assert derive(SEED, V1, 5) == derive_v1(SEED, V1, 5)
    assert derive(SEED, KEYSET.id.upper(), 5) == derive_v2(SEED, KEYSET.id, 5)
    found = {derive(SEED, identifier, counter) for identifier in (V1, KEYSET.id, "01" * 33) for counter in range(5)}
    assert len(found) == 15


@pytest.mark.parametrize(
    ("keyset_id", "counter"),
    [(V1, -1), (V1, 2**31), (KEYSET.id, -1), (KEYSET.id, 2**64), ("02" * 33, 0), (KEYSET.id[:16], 0), ("eGnEWtdJ0PIM", 0)],
)
def test_derivation_refuses_to_guess(keyset_id: str, counter: int) -> None:
    """Counters out of range and ids that are short, old or of an unknown version derive nothing."""
    with pytest.raises(MalformedError):
        derive(SEED, keyset_id, counter)


def test_wallet_keys_have_separate_paths() -> None:
    """P2PK and quote keys never meet, and their counters are bounded."""
    assert len({make(SEED, n) for make in (p2pk_secret_key, quote_secret_key) for n in range(3)}) == 6
    for make in (p2pk_secret_key, quote_secret_key):
        for counter in (-1, 2**31):
            with pytest.raises(MalformedError):
                make(SEED, counter)
