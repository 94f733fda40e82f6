"""Who may sign: the `Signer` port, and how a seed is sealed at rest. Providers and stores are in `keys.adapters`."""

from specie.keys.errors import (
    KeyringUnsafeError,
    KeyUnknownError,
    PassphraseWrongError,
    SealFileUnsafeError,
    SealKeyMissingError,
    SealMismatchError,
    SealSourceError,
    SeedExistsError,
    SeedMalformedError,
    SeedMissingError,
    SignerClosedError,
)
from specie.keys.ports import (
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    MessageSigner,
    ProofToVerify,
    Signer,
    ToBlindSign,
)
from specie.keys.sealing import PASSPHRASE_VARIABLE, OpenedSeed, SealKind, SealSource

__all__ = [
    "PASSPHRASE_VARIABLE",
    "BlindSigned",
    "Capabilities",
    "DerivedSecret",
    "KeyRef",
    "KeyUnknownError",
    "KeyringUnsafeError",
    "KeysetRef",
    "MessageSigner",
    "OpenedSeed",
    "PassphraseWrongError",
    "ProofToVerify",
    "SealFileUnsafeError",
    "SealKeyMissingError",
    "SealKind",
    "SealMismatchError",
    "SealSource",
    "SealSourceError",
    "SeedExistsError",
    "SeedMalformedError",
    "SeedMissingError",
    "Signer",
    "SignerClosedError",
    "ToBlindSign",
]
