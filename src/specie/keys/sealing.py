"""How a seed is sealed at rest: the ways, the choice among them, the file's form, what is refused. Decisions only.

A seed is sealed by a passphrase, or by a random key that stands in the OS keyring or, for play money alone, in a file
outside the data directory. A key never stands beside what it opens. The effects are those of `adapters.seed_store`.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from specie.kernel.errors import RefusedError
from specie.keys.errors import SealFileUnsafeError, SealMismatchError, SealSourceError, SeedMalformedError

__all__ = [
    "PASSPHRASE_VARIABLE",
    "WALLET_PASSPHRASE_VARIABLE",
    "OpenedSeed",
    "SealForm",
    "SealKind",
    "SealSource",
    "SealedSeed",
    "file_checked",
    "key_place_checked",
    "keyring_is_safe",
    "passphrase_from_bytes",
    "seal_choice",
    "seal_choice_for",
    "sealed_seed_from_bytes",
    "sealed_seed_to_bytes",
    "word_checked",
]

PASSPHRASE_VARIABLE = "SPECIE_PASSPHRASE"  # noqa: S105 (a name, not a password)
"""Environment variable that may hold the passphrase; read by `ops.config`, never here."""

_PASSPHRASE_BYTES = 4096
_FILE_BYTES = 4096
_HEADER = re.compile(rb"specie-seed 1 ([a-z0-9][a-z0-9_-]{0,63}) ([a-z-]{1,32}) ([0-9a-f]{32})\n")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
WALLET_PASSPHRASE_VARIABLE = "SPECIE_WALLET_PASSPHRASE"  # noqa: S105 (a name, not a password)
"""The same for a wallet; read by the terminal."""

_VARIABLES = {"wallet": WALLET_PASSPHRASE_VARIABLE}
_WAYS = (
    "give a passphrase file (--passphrase-file), a passphrase in the environment "
    f"({PASSPHRASE_VARIABLE}), or the keyring of the operating system"
)

# Backends of the `keyring` package that keep secrets encrypted or behind the operating system's own access control.
_SAFE_KEYRINGS = frozenset(
    {
        "keyring.backends.SecretService",
        "keyring.backends.libsecret",
        "keyring.backends.kwallet",
        "keyring.backends.macOS",
        "keyring.backends.Windows",
    }
)


class SealForm(StrEnum):
    """What a sealed seed file says about what opens it."""

    PASSPHRASE = "passphrase"  # noqa: S105
    KEYRING = "keyring"
    PLAY_KEY = "play-key"

    @property
    def label(self) -> str:
        """A few words for people; the weakest way is called so."""
        return _FORMS[self]


_FORMS = {
    SealForm.PASSPHRASE: "sealed by a passphrase",
    SealForm.KEYRING: "sealed by the system's keyring",
    SealForm.PLAY_KEY: "sealed by a key file: the weakest way, for play money only",
}


class SealKind(StrEnum):
    """The way a seed was opened, for the terminal and the start page."""

    PASSPHRASE_FILE = "passphrase-file"  # noqa: S105
    ENVIRONMENT = "environment"
    KEYRING = "keyring"
    PLAY_KEY = "play-key"

    @property
    def form(self) -> SealForm:
        """What the file says: both ways to give a passphrase are one form."""
        match self:
            case SealKind.KEYRING:
                return SealForm.KEYRING
            case SealKind.PLAY_KEY:
                return SealForm.PLAY_KEY
        return SealForm.PASSPHRASE

    @property
    def label(self) -> str:
        """One line for people."""
        return _LABELS[self]


_LABELS = {
    SealKind.PASSPHRASE_FILE: "sealed by a passphrase from a file",
    SealKind.ENVIRONMENT: f"sealed by the passphrase in {PASSPHRASE_VARIABLE}",
    SealKind.KEYRING: "sealed by a key in the operating system's keyring",
    SealKind.PLAY_KEY: "sealed by a key file in your config home, which is for play money only",
}

_OPENED_BY = {
    SealForm.PASSPHRASE: "a passphrase: give the passphrase file or {variable}",
    SealForm.KEYRING: "a key in the operating system's keyring: ask for the keyring",
    SealForm.PLAY_KEY: "a play-money key file: open it without a passphrase or keyring, or reseal it first",
}


@dataclass(frozen=True, slots=True)
class SealSource:
    """What the operator gave. At most one way; with none, only play money may be kept (`seal_choice`)."""

    passphrase_file: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    """The passphrase itself, as the environment holds it."""
    keyring: bool = False
    play_key: bool = False
    """The key file for play money, asked for by name."""

    @property
    def given(self) -> bool:
        """Whether any way was given."""
        return self.passphrase_file is not None or self.passphrase is not None or self.keyring or self.play_key


@dataclass(frozen=True, slots=True)
class SealedSeed:
    """A sealed seed file. `header` is authenticated by the seal, so none of the facts can be changed unseen."""

    use: str
    """What the seed is for, `mint` or `wallet`: one cannot be put in place of the other."""
    form: SealForm
    seal_id: str
    """32 hex characters, random and new with each sealing; names the sealing key where there is one."""
    blob: bytes

    @property
    def header(self) -> bytes:
        """First line of the file, and the context of its seal."""
        return f"specie-seed 1 {self.use} {self.form} {self.seal_id}\n".encode()

    @property
    def key_name(self) -> str:
        """Name of the sealing key's file or keyring entry."""
        return f"{self.use}-{self.seal_id}"


@dataclass(frozen=True, slots=True)
class OpenedSeed:
    """A seed in the clear, for a signer; not shown by repr. `where` names what opened it (a path, a variable, a keyring)."""

    seed: bytes = field(repr=False)
    kind: SealKind
    created: bool
    where: str
    key_name: str = ""
    """`SealedSeed.key_name`: the seed's own name for what is kept beside its key; new with each sealing."""


def seal_choice(source: SealSource, *, all_play: bool) -> SealKind:
    """The way to seal a new seed. SealSourceError if several ways are given, or none while money is real."""
    given = [
        kind
        for kind, present in (
            (SealKind.PASSPHRASE_FILE, source.passphrase_file is not None),
            (SealKind.ENVIRONMENT, source.passphrase is not None),
            (SealKind.KEYRING, source.keyring),
            (SealKind.PLAY_KEY, source.play_key),
        )
        if present
    ]
    if len(given) > 1:
        raise SealSourceError(f"several ways to seal the keys are given ({', '.join(given)}); give one")
    if given and (given[0] is not SealKind.PLAY_KEY or all_play):
        return given[0]
    if not all_play:
        raise SealSourceError(f"keys of real money must be sealed: {_WAYS}")
    return SealKind.PLAY_KEY


def seal_choice_for(sealed: SealedSeed, source: SealSource, *, all_play: bool) -> SealKind:
    """The way to open an existing seed; errors as `seal_choice`, and SealMismatchError if it was sealed otherwise."""
    kind = seal_choice(source, all_play=all_play)
    if kind.form is sealed.form:
        return kind
    raise SealMismatchError(f"the {sealed.use} seed is sealed by {_opened_by(sealed)}")


def _opened_by(sealed: SealedSeed) -> str:
    return _OPENED_BY[sealed.form].format(variable=_VARIABLES.get(sealed.use, PASSPHRASE_VARIABLE))


def sealed_seed_to_bytes(sealed: SealedSeed) -> bytes:
    """The file: one line of text, then the blob of `kernel.seal`."""
    return sealed.header + sealed.blob


def sealed_seed_from_bytes(data: bytes, *, use: str) -> SealedSeed:
    """Parse a file; SeedMalformedError if it is damaged, of another version, or for another use."""
    if len(data) > _FILE_BYTES:
        raise SeedMalformedError("the sealed seed file is too long")
    match = _HEADER.match(data)
    if match is None:
        raise SeedMalformedError("this is no sealed seed file, or one of another version")
    found, form, seal_id = (group.decode() for group in match.groups())
    if found != use:
        raise SeedMalformedError(f"this seed is for a {found}, not for a {use}")
    if form not in set(SealForm):
        raise SeedMalformedError("the seed is sealed in a way this version does not know")
    return SealedSeed(found, SealForm(form), seal_id, data[match.end() :])


def word_checked(text: str) -> str:
    """A name or use: 1 to 64 of a-z, 0-9, '_' and '-', so that it is safe in a path and a header; RefusedError else."""
    if not _WORD.fullmatch(text):
        raise RefusedError("a seed's name is 1 to 64 of a-z, 0-9, '_' and '-', and starts with a letter or digit")
    return text


def passphrase_from_bytes(data: bytes) -> bytes:
    """The passphrase of a file or variable: its bytes without one line end. SealSourceError if empty, long or many lines."""
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise SealSourceError("the passphrase is empty")
    if len(line) > _PASSPHRASE_BYTES:
        raise SealSourceError(f"the passphrase is longer than {_PASSPHRASE_BYTES} bytes")
    if b"\n" in line or b"\x00" in line:
        raise SealSourceError("a passphrase is one line of text")
    return line


def file_checked(status: tuple[int, int, int], *, user: int, path: str, kind: str) -> None:
    """Judge (mode, uid, gid) of a file or directory that guards a secret; SealFileUnsafeError if others may use it.

    It must belong to `user` or root and give group and world nothing. One group may read: root's, on a file that root hands
    to a `user` who is not root, as service managers do with credentials. `kind` names the file in the error.
    """
    mode, owner, group = status
    if owner not in (user, 0) and user != 0:
        raise SealFileUnsafeError(f"{kind} {path} belongs to another user", path=path)
    open_bits = stat.S_IMODE(mode) & 0o077
    if owner == 0 and group == 0 and user != 0 and not stat.S_ISDIR(mode):
        open_bits &= ~0o050
    if open_bits:
        wanted = "700" if stat.S_ISDIR(mode) else "600"
        raise SealFileUnsafeError(
            f"{kind} {path} is open to other users (mode {stat.S_IMODE(mode):03o}); run: chmod {wanted} {path}", path=path
        )


def key_place_checked(key_dir: PurePath, data_dir: PurePath) -> None:
    """SealFileUnsafeError if a key in `key_dir` would stand beside its ciphertext. Both absolute, without symlinks."""
    if key_dir == data_dir or data_dir in key_dir.parents or key_dir in data_dir.parents:
        raise SealFileUnsafeError(
            f"the sealing key would stand beside what it opens ({key_dir}); choose another data directory",
            path=str(key_dir),
        )


def keyring_is_safe(module: str) -> bool:
    """Whether a keyring backend, given by its class's module, is known to protect what it stores.

    An allow-list, so that an unknown backend (`fail`, `null`, a plaintext file) is never taken for a safe one.
    """
    return module in _SAFE_KEYRINGS
