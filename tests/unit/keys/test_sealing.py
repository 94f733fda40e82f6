"""Which way a seed is sealed, what its file looks like, and what is refused: decisions without effects."""

from __future__ import annotations

import itertools
import stat
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel.errors import RefusedError
from specie.keys import (
    SealFileUnsafeError,
    SealKind,
    SealMismatchError,
    SealSource,
    SealSourceError,
    SeedMalformedError,
)
from specie.keys.sealing import (
    SealedSeed,
    SealForm,
    file_checked,
    key_place_checked,
    keyring_is_safe,
    passphrase_from_bytes,
    seal_choice,
    seal_choice_for,
    sealed_seed_from_bytes,
    sealed_seed_to_bytes,
    word_checked,
)

SOURCES = {
    SealKind.PASSPHRASE_FILE: SealSource(passphrase_file="/run/pass"),
    SealKind.ENVIRONMENT: SealSource(passphrase="hunter2"),
    SealKind.KEYRING: SealSource(keyring=True),
    SealKind.PLAY_KEY: SealSource(),
}
SEAL_ID = "0123456789abcdef" * 2


def test_play_money_alone_may_do_without() -> None:
    """With nothing given, all rails play: a play-money key. With any real rail: refused, naming the three ways."""
    assert seal_choice(SealSource(), all_play=True) is SealKind.PLAY_KEY
    with pytest.raises(SealSourceError) as caught:
        seal_choice(SealSource(), all_play=False)
    for way in ("--passphrase-file", "SPECIE_PASSPHRASE", "keyring"):
        assert way in caught.value.detail


@pytest.mark.parametrize("all_play", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in SealKind if kind is not SealKind.PLAY_KEY])
def test_what_is_given_is_taken(kind: SealKind, all_play: bool) -> None:
    """Each way alone is taken, for real and for play money: never the weaker key beside it."""
    assert seal_choice(SOURCES[kind], all_play=all_play) is kind


@pytest.mark.parametrize("all_play", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_two_ways_are_refused(count: int, all_play: bool) -> None:
    """Several ways at once are ambiguous and refused, whichever they are."""
    whole = SealSource("/run/pass", "hunter2", keyring=True)
    for names in itertools.combinations(("passphrase_file", "passphrase", "keyring"), count):
        with pytest.raises(SealSourceError, match="several"):
            seal_choice(SealSource(**{name: getattr(whole, name) for name in names}), all_play=all_play)


@pytest.mark.parametrize("given_kind", SealKind)
@pytest.mark.parametrize("form", SealForm)
def test_existing_seed_opens_its_own_way_only(form: SealForm, given_kind: SealKind) -> None:
    """Another way than the one it was sealed in is refused by name; it is never resealed in passing."""
    sealed = SealedSeed("mint", form, SEAL_ID, b"")
    if given_kind.form is form:
        assert seal_choice_for(sealed, SOURCES[given_kind], all_play=True) is given_kind
    else:
        with pytest.raises(SealMismatchError, match="sealed by a"):
            seal_choice_for(sealed, SOURCES[given_kind], all_play=True)


def test_play_sealed_seed_is_refused_for_real_money() -> None:
    """A bank that gets its first real rail does not go on with the play-money key."""
    with pytest.raises(SealSourceError):
        seal_choice_for(SealedSeed("mint", SealForm.PLAY_KEY, SEAL_ID, b""), SealSource(), all_play=False)


@given(st.sampled_from(["mint", "wallet", "a-b_c9"]), st.sampled_from(SealForm), st.binary(max_size=200))
def test_file_round_trip(use: str, form: SealForm, blob: bytes) -> None:
    """What is written is read, whatever bytes the blob has."""
    sealed = SealedSeed(use, form, SEAL_ID, blob)
    assert sealed_seed_from_bytes(sealed_seed_to_bytes(sealed), use=use) == sealed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"specie-seed 2 mint play-key " + SEAL_ID.encode() + b"\n",
        b"specie-seed 1 mint play-key " + SEAL_ID.encode(),
        b"specie-seed 1 mint play-key " + SEAL_ID.upper().encode() + b"\n",
        b"specie-seed 1 mint play-key ../../x\n",
        b"specie-seed 1 mint telepathy " + SEAL_ID.encode() + b"\n",
        b"specie-seed 1 wallet play-key " + SEAL_ID.encode() + b"\n",
        b"specie-seed 1 mint play-key " + SEAL_ID.encode() + b"\n" + bytes(5000),
    ],
    ids=["empty", "version", "cut", "id", "path", "form", "use", "long"],
)
def test_what_is_no_sealed_seed(data: bytes) -> None:
    """Damaged files, other versions and a seed of another use are refused."""
    with pytest.raises(SeedMalformedError):
        sealed_seed_from_bytes(data, use="mint")


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_calmly(data: bytes) -> None:
    """No bytes from disk raise anything but a refusal."""
    for prefix in (b"", b"specie-seed 1 "):
        with pytest.raises(RefusedError):
            sealed_seed_from_bytes(prefix + data, use="mint")


@pytest.mark.parametrize("name", ["mint", "bob", "a", "0", "x" * 64, "a-b_c"])
def test_names(name: str) -> None:
    """Plain names are taken."""
    assert word_checked(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-a", "_a", "A", "a b", "a\n", "x" * 65, "ä", "a\x00"])
def test_names_that_leave_their_place(name: str) -> None:
    """What could leave the directory or break the header is refused."""
    with pytest.raises(RefusedError):
        word_checked(name)


@pytest.mark.parametrize("data", [b"pass word", b"pass word\n", b"pass word\r\n"])
def test_passphrase_without_its_line_end(data: bytes) -> None:
    """An editor's line end is not part of the passphrase, so file and environment agree."""
    assert passphrase_from_bytes(data) == b"pass word"


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"a\nb", b"a\n\n", b"a\x00", b"x" * 4097])
def test_what_is_no_passphrase(data: bytes) -> None:
    """Nothing, several lines and whole binaries are refused, not guessed at."""
    with pytest.raises(SealSourceError):
        passphrase_from_bytes(data)


FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("mode", "owner", "group", "user", "passes"),
    [
        (FILE | 0o600, 1000, 1000, 1000, True),
        (FILE | 0o400, 1000, 1000, 1000, True),
        (FILE | 0o400, 0, 0, 1000, True),
        (FILE | 0o440, 0, 0, 1000, True),
        (FILE | 0o600, 1000, 1000, 0, True),
        (DIRECTORY | 0o700, 1000, 1000, 1000, True),
        (FILE | 0o640, 1000, 1000, 1000, False),
        (FILE | 0o604, 1000, 1000, 1000, False),
        (FILE | 0o602, 1000, 1000, 1000, False),
        (FILE | 0o644, 0, 0, 1000, False),
        (FILE | 0o440, 0, 0, 0, False),
        (FILE | 0o444, 0, 0, 0, False),
        (FILE | 0o460, 0, 0, 1000, False),
        (FILE | 0o440, 0, 1000, 1000, False),
        (FILE | 0o600, 1001, 1000, 1000, False),
        (DIRECTORY | 0o750, 1000, 1000, 1000, False),
        (DIRECTORY | 0o750, 0, 0, 0, False),
    ],
)
def test_who_may_read(mode: int, owner: int, group: int, user: int, passes: bool) -> None:
    """Only the owner or root reads a secret; root's own group on root's own file is how service managers hand one over."""
    if passes:
        file_checked((mode, owner, group), user=user, path="/x", kind="the file")
    else:
        with pytest.raises(SealFileUnsafeError) as caught:
            file_checked((mode, owner, group), user=user, path="/x", kind="the file")
        assert caught.value.path == "/x"


@pytest.mark.parametrize(
    ("key_dir", "data_dir"),
    [
        ("/d", "/d"),
        ("/d/keys", "/d"),
        ("/d/a/b", "/d"),
        ("/c/keys", "/c/keys/data"),
        ("/home/u/.config/specie/keys", "/home/u"),
    ],
)
def test_a_key_never_stands_beside_its_ciphertext(key_dir: str, data_dir: str) -> None:
    """A key in the data directory, below it or above it would be copied with it."""
    with pytest.raises(SealFileUnsafeError, match="beside what it opens"):
        key_place_checked(PurePosixPath(key_dir), PurePosixPath(data_dir))


def test_ordinary_places_are_apart() -> None:
    """The default places of configuration and data are fine, also where one name begins with the other."""
    key_place_checked(PurePosixPath("/home/u/.config/specie/keys"), PurePosixPath("/home/u/.local/share/specie"))
    key_place_checked(PurePosixPath("/d/specie-keys"), PurePosixPath("/d/specie"))


@pytest.mark.parametrize("module", ["keyring.backends.SecretService", "keyring.backends.macOS", "keyring.backends.kwallet"])
def test_safe_keyrings(module: str) -> None:
    """The keyrings of the desktop systems are taken."""
    assert keyring_is_safe(module)


@pytest.mark.parametrize(
    "module", ["keyring.backends.fail", "keyring.backends.null", "keyrings.alt.file", "keyring.backends.chainer", "", "x"]
)
def test_unsafe_keyrings(module: str) -> None:
    """Those that fail, forget or store plainly, and those unknown, are not."""
    assert not keyring_is_safe(module)


def test_labels() -> None:
    """Every way has a line for people; the play key's says that it is for play money."""
    assert len({kind.label for kind in SealKind}) == len(SealKind)
    assert "play money only" in SealKind.PLAY_KEY.label


def test_passphrase_is_not_shown() -> None:
    """A source can be printed without giving the passphrase away."""
    assert "hunter2" not in repr(SOURCES[SealKind.ENVIRONMENT])
