"""Who may sign: the `Signer` port, and how a seed is sealed at rest. Providers and stores are in `keys.adapters`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.keys.errors import (
        KeyringUnsafeError,
        KeysDifferError,
        KeyUnknownError,
        PassphraseWrongError,
        PolicyRefusedError,
        SealFileUnsafeError,
        SealKeyMissingError,
        SealMismatchError,
        SealSourceError,
        SealTooWeakError,
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
        MessageSigner,
        ProofToVerify,
        SecretShelf,
        SecretStore,
        Signer,
        ToBlindSign,
    )
    from specie.keys.sealing import PASSPHRASE_VARIABLE, WALLET_PASSPHRASE_VARIABLE, OpenedSeed, SealForm, SealKind, SealSource
else:
    __getattr__ = front_door(
        __name__,
        {
            "errors": (
                "KeyringUnsafeError",
                "KeysDifferError",
                "KeyUnknownError",
                "PassphraseWrongError",
                "PolicyRefusedError",
                "SealFileUnsafeError",
                "SealKeyMissingError",
                "SealMismatchError",
                "SealSourceError",
                "SealTooWeakError",
                "SeedExistsError",
                "SeedMalformedError",
                "SeedMissingError",
                "SignerClosedError",
            ),
            "ports": (
                "BlindedKey",
                "BlindSigned",
                "Capabilities",
                "DerivedSecret",
                "KeyRef",
                "KeysetRef",
                "MessageSigner",
                "ProofToVerify",
                "SecretShelf",
                "SecretStore",
                "Signer",
                "ToBlindSign",
            ),
            "sealing": (
                "PASSPHRASE_VARIABLE",
                "WALLET_PASSPHRASE_VARIABLE",
                "OpenedSeed",
                "SealForm",
                "SealKind",
                "SealSource",
            ),
        },
    )

__all__ = [
    "PASSPHRASE_VARIABLE",
    "WALLET_PASSPHRASE_VARIABLE",
    "BlindSigned",
    "BlindedKey",
    "Capabilities",
    "DerivedSecret",
    "KeyRef",
    "KeyUnknownError",
    "KeyringUnsafeError",
    "KeysDifferError",
    "KeysetRef",
    "MessageSigner",
    "OpenedSeed",
    "PassphraseWrongError",
    "PolicyRefusedError",
    "ProofToVerify",
    "SealFileUnsafeError",
    "SealForm",
    "SealKeyMissingError",
    "SealKind",
    "SealMismatchError",
    "SealSource",
    "SealSourceError",
    "SealTooWeakError",
    "SecretShelf",
    "SecretStore",
    "SeedExistsError",
    "SeedMalformedError",
    "SeedMissingError",
    "Signer",
    "SignerClosedError",
    "ToBlindSign",
]
