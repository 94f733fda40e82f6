"""NUT-21 and NUT-22 as values: what is protected, and how a blind token is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash import (
    BlindedMessage,
    MintInfo,
    Proof,
    ProofDleq,
    ProtectedEndpoint,
    blind_auth_setting,
    clear_auth_setting,
    endpoint_from_text,
    is_protected,
    wire,
)
from specie.ecash.codes import BlindAuthFailedError, TooManyOutputsError
from specie.kernel import Limits, MalformedError
from specie.kernel.encoding import base64url_encode
from tests.support.coins import public_key
from tests.support.vectors import each


@each("nut21-path-matching")
def test_paths_match_as_the_specification_says(record):
    """The vectors of NUT-21: exact, or a prefix when the path ends in a star."""
    endpoint = endpoint_from_text(f"POST {record['pattern']}")
    assert endpoint.matches("POST", record["path"]) is record["match"]
    assert is_protected([endpoint], "POST", record["path"]) is record["match"]


def test_another_method_is_another_endpoint():
    """GET of a path says nothing of POST."""
    assert not ProtectedEndpoint("GET", "/v1/swap").matches("POST", "/v1/swap")
    assert not is_protected([], "GET", "/v1/swap")


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_path_is_text_and_never_a_pattern(path, asked):
    """No character but a star at the end means anything but itself."""
    expected = asked.startswith(path[:-1]) if path.endswith("*") else asked == path
    assert ProtectedEndpoint("GET", path).matches("GET", asked) is expected


@pytest.mark.parametrize(
    "text", ["/v1/swap", "PUT /v1/swap", "POST v1/swap", "POST /v1/*/x", "POST /v1/a b", "POST /v2/swap", ""]
)
def test_what_is_no_endpoint_is_refused(text):
    """An operator's slip is told, not guessed."""
    with pytest.raises(MalformedError):
        endpoint_from_text(text)


def test_what_a_mint_says_is_read_with_suspicion():
    """Settings that do not fit are as good as none, and entries that do not fit are left out."""
    good = {"method": "post", "path": "/v1/swap"}
    info = MintInfo(
        nuts={
            "21": {"openid_discovery": "https://a", "client_id": "c", "protected_endpoints": [good, {"method": 1}, "x"]},
            "22": {"bat_max_mint": 10**9, "protected_endpoints": "all"},
        }
    )
    clear, blind = clear_auth_setting(info), blind_auth_setting(info)
    assert clear is not None
    assert clear.protected_endpoints == (ProtectedEndpoint("POST", "/v1/swap"),)
    assert blind is not None
    assert (blind.bat_max_mint, blind.protected_endpoints) == (1000, ())
    for nuts in (
        {},
        {"21": [], "22": 1},
        {"21": {"openid_discovery": "x" * 5000, "client_id": "c"}, "22": {"bat_max_mint": True}},
    ):
        assert clear_auth_setting(MintInfo(nuts=nuts)) is None
        assert blind_auth_setting(MintInfo(nuts=nuts)) is None
    assert blind_auth_setting(MintInfo(nuts={"22": {"bat_max_mint": True}})) is None


ID = "00e479673849bf60"
TOKEN = Proof(1, ID, "secret", public_key(7), dleq=ProofDleq(b"e" * 32, b"s" * 32, b"r" * 32))


@pytest.mark.parametrize("padding", [True, False])
def test_a_blind_token_is_read_padded_or_not(padding):
    """NUT-22: both forms must be taken; what we write has neither padding nor a DLEQ proof, which would tell who asks."""
    body = json.dumps({"id": ID, "secret": "secret", "C": TOKEN.C.hex()}).encode()
    read = wire.auth_token_from_text("authA" + base64url_encode(body, padding=padding))
    assert (read.amount, read.id, read.secret, read.C, read.dleq) == (1, ID, "secret", TOKEN.C, None)
    written = wire.auth_token_to_text(TOKEN)
    assert "=" not in written
    assert wire.auth_token_from_text(written) == Proof(1, ID, "secret", TOKEN.C)


@pytest.mark.parametrize(
    "text",
    ["", "authB", "authA", "authA!!", "authAe30", "authA" + "A" * 5000, "authA" + base64url_encode(b'{"id":1}')],
)
def test_what_is_no_blind_token_is_refused_as_one(text):
    """31002, whatever is wrong with it."""
    with pytest.raises(BlindAuthFailedError):
        wire.auth_token_from_text(text)


def test_secrets_and_points_of_a_header_are_bounded():
    """A header cannot hold a secret that is longer than any, an unknown keyset version or a short point."""
    for wrong in ({"secret": "s" * 9000}, {"id": "ff00000000000000"}, {"C": "02"}):
        body = json.dumps({"id": ID, "secret": "s", "C": TOKEN.C.hex(), **wrong}).encode()
        with pytest.raises(BlindAuthFailedError):
            wire.auth_token_from_text("authA" + base64url_encode(body), limits=Limits(secret_chars=100))


def test_the_request_for_blind_tokens_round_trips():
    """POST /v1/auth/blind/mint takes outputs and nothing else."""
    outputs = (BlindedMessage(1, ID, public_key(3)), BlindedMessage(1, ID, public_key(4)))
    body = wire.auth_mint_request_to_json(outputs)
    assert json.loads(body).keys() == {"outputs"}
    assert wire.auth_mint_request_from_json(body) == outputs
    with pytest.raises(TooManyOutputsError):
        wire.auth_mint_request_from_json(body, limits=Limits(array_length=1))
