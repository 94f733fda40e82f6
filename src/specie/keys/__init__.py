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
    BlindedKey,
    BlindSigned,
    Capabilities,
    DerivedSecret,
    KeyRef,
    KeysetRef,
    ProofToVerify,
    Signer,
    ToBlindSign,
)
from specie.keys.sealing import PASSPHRASE_VARIABLE, OpenedSeed, SealKind, SealSource

__all__ = [
    "PASSPHRASE_VARIABLE",
    "BlindSigned",
    "BlindedKey",
    "Capabilities",
    "DerivedSecret",
    "KeyRef",
    "KeyUnknownError",
    "KeyringUnsafeError",
    "KeysetRef",
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
