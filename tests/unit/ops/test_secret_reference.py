"""A secret written as a reference is read late, from where it says, and told by its place alone."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.app import secret_sources
from specie.app.secret_sources import revealed, system_sources
from specie.kernel.errors import UnavailableError
from specie.ops import config
from specie.ops.config import load_settings
from specie.ops.errors import SettingsError
from specie.ops.revision import redacted_document, secrets_of, shown
from specie.ops.schema import FieldSpec, convert
from specie.ops.secret import Secret
from specie.ops.secret_reference import (
    MAX_SECRET_BYTES,
    SCHEMES,
    SecretReference,
    SecretReferenceError,
    Sources,
    reference_from_text,
    resolve,
)
from tests.support.keyrings import MemoryKeyring

CANARY = "canary-9b1f-4e"


@pytest.fixture(autouse=True)
def _no_user_file(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "default_config_file", lambda: tmp_path / "absent.toml")


def secret_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> SecretReference:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return SecretReference("file", str(path))


NOWHERE = Sources({})


@pytest.mark.parametrize(
    ("content", "value"), [(b"word", "word"), (b"word\n", "word"), (b"word\r\n", "word"), (b"a\n\n", "a\n"), (b" a ", " a ")]
)
def test_a_file_gives_its_text_without_its_last_line_end(tmp_path, content, value):
    """As a passphrase file does: one line end goes, nothing else."""
    assert resolve(secret_file(tmp_path, content), NOWHERE).reveal() == value


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"x", 0o640, "mode 640"),
        (b"x", 0o604, "mode 604"),
        (b"x", 0o601, "chmod 600"),
        (b"x" * (MAX_SECRET_BYTES + 1), 0o600, "is larger than 65,536 bytes"),
        (b"\xff\xfe", 0o600, "is no UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path, content, mode, reason):
    """Empty, too open, too large, no text: which file, and why; never what it holds."""
    reference = secret_file(tmp_path, content, mode)
    with pytest.raises(SecretReferenceError, match=reason) as caught:
        resolve(reference, NOWHERE)
    assert str(reference) in str(caught.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    """A missing file, a directory, and a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, reason in (("absent", "no such file"), ("", "no regular file"), ("pipe", "no regular file")):
        with pytest.raises(SecretReferenceError, match=reason):
            resolve(SecretReference("file", str(tmp_path / name)), NOWHERE)


def test_variables_and_keyring_entries(tmp_path):
    """Each by its name; an absent one, and a place without a keyring, say so."""
    sources = Sources({"A": "one", "E": ""}, lambda service, user: {("bank", "seed/1"): "two"}.get((service, user)))
    assert resolve(SecretReference("env", "A"), sources).reveal() == "one"
    assert resolve(SecretReference("keyring", "bank/seed/1"), sources).reveal() == "two"
    for reference, used, reason in (
        ("env:B", sources, "is not set"),
        ("env:E", sources, "is empty"),
        ("keyring:bank/x", sources, "no such entry"),
        ("keyring:bank/seed/1", NOWHERE, "no keyring can be asked"),
    ):
        scheme, _, place = reference.partition(":")
        with pytest.raises(SecretReferenceError, match=reason):
            resolve(SecretReference(scheme, place), used)


def test_a_keyring_is_asked_within_a_limit(monkeypatch):
    """Its answer, its error, and its silence each come back."""
    ring = MemoryKeyring()
    ring.entries["specie", "dsn"] = CANARY
    monkeypatch.setattr(secret_sources, "safe_keyring", lambda: ring)
    assert revealed(SecretReference("keyring", "specie/dsn"), system_sources({})) == CANARY
    ring.on_read = lambda user: time.sleep(0.5)
    with pytest.raises(UnavailableError, match="did not answer within"):
        revealed(SecretReference("keyring", "specie/dsn"), system_sources({}, keyring_s=0.01))
    ring.refusal = UnavailableError("locked")
    with pytest.raises(UnavailableError, match="locked"):
        revealed(SecretReference("keyring", "specie/dsn"), system_sources({}))
    assert revealed(Secret("as it is")) == "as it is"


@pytest.mark.parametrize(
    "text",
    [
        "env:",
        "env:A B",
        "env:1A",
        "keyring:",
        "keyring:bank",
        "keyring:bank/",
        "keyring:/x",
        "file:",
        "file:/a/",
        "file:/a\x00",
        "env:" + "A" * 5000,
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_at_once(tmp_path, text):
    """When the settings are read, not when the secret is needed."""
    with pytest.raises(ValueError, match=r"needs|no usable"):
        reference_from_text(text, tmp_path)


@given(st.text() | st.builds("{}:{}".format, st.sampled_from([*SCHEMES, "bao", "FILE", ""]), st.text()))
def test_any_text_is_a_reference_or_none_or_refused(text):
    """Nothing else comes out, and a reference written again is the same reference."""
    base = Path("/base")
    try:
        found = reference_from_text(text, base)
    except ValueError:
        assert text.partition(":")[0] in SCHEMES
        return
    if found is None:
        assert text.partition(":")[0] not in SCHEMES or ":" not in text
    else:
        assert reference_from_text(str(found), base) == found
        with contextlib.suppress(SecretReferenceError):
            resolve(found, Sources({}, lambda service, user: None))


def test_settings_hold_references_and_never_what_they_lead_to(tmp_path):
    """From the file, a passphrase too; neither repr nor what is shown or stored has the secret."""
    (tmp_path / "dsn").write_text(f"postgresql://user:{CANARY}@host/bank")
    (tmp_path / "dsn").chmod(0o600)
    file = tmp_path / "bank.toml"
    file.write_text('[store]\ndsn = "file:dsn"\n[keys]\npassphrase = "env:BANK_WORD"\n')
    settings = load_settings(file, {"BANK_WORD": CANARY})
    assert settings.store.dsn == SecretReference("file", str(tmp_path / "dsn"))
    assert settings.keys.passphrase == SecretReference("env", "BANK_WORD")
    assert dict(secrets_of(settings)) == {"store.dsn": settings.store.dsn, "keys.passphrase": settings.keys.passphrase}
    assert shown(settings)["store.dsn"] == f'"file:{tmp_path / "dsn"}"'
    for text in (repr(settings), str(shown(settings)), str(redacted_document({"store": {"dsn": "file:dsn"}}))):
        assert CANARY not in text
    assert settings.store.dsn is not None
    assert CANARY in revealed(settings.store.dsn, NOWHERE)


def test_a_secret_in_the_clear_is_not_remembered(tmp_path):
    """What is shown says [redacted], and a file that holds it is not kept at all."""
    settings = load_settings(None, {"SPECIE_STORE_DSN": f"postgresql://u:{CANARY}@h/b"})
    assert shown(settings)["store.dsn"] == '"[redacted]"'
    assert redacted_document({"store": {"dsn": f"postgresql://u:{CANARY}@h/b"}}) is None
    assert redacted_document({"store": {"dsn": ""}, "rails": [{"kind": "play"}]}) is not None
    file = tmp_path / "bank.toml"
    for value, reason in ((CANARY, "use a reference"), ("keyring:x", "needs service/user")):
        file.write_text(f'[keys]\npassphrase = "{value}"\n')
        with pytest.raises(SettingsError, match=reason):
            load_settings(file)


def test_a_field_for_secrets_alone_takes_no_reference(tmp_path):
    """Rather refused than taken for the secret itself."""
    spec = FieldSpec("pin", Secret | None, "", None, 0, 0)
    assert convert(spec, "1234", tmp_path) == Secret("1234")
    with pytest.raises(ValueError, match="takes no reference"):
        convert(spec, "env:PIN", tmp_path)
