"""What the key room refuses, one class for each thing a caller can do about it. None carries key material."""

from __future__ import annotations

from specie.kernel.errors import InvariantError, MalformedError, RefusedError
from specie.kernel.seal import SealBrokenError

__all__ = [
    "CapabilityMissingError",
    "KeyFaultError",
    "KeyUnknownError",
    "KeyringUnsafeError",
    "KeysDifferError",
    "PairingError",
    "PassphraseWrongError",
    "PolicyRefusedError",
    "ProviderMissingError",
    "SealFileUnsafeError",
    "SealKeyMissingError",
    "SealMismatchError",
    "SealSourceError",
    "SealTooWeakError",
    "SeedExistsError",
    "SeedMalformedError",
    "SeedMissingError",
    "SignerClosedError",
    "TokenFullError",
    "TokenPinError",
]


class KeyUnknownError(RefusedError):
    """The ref names no key of this signer, or a key that must not be used this way."""


class KeysDifferError(RefusedError):
    """Places that must hold the same keys do not. Nothing is signed by either until a human decided which is right."""


class PolicyRefusedError(RefusedError):
    """A rule of the signer's policy forbids this use of a key.

    Attributes:
        rule: the rule's name.
        retry_after_s: after how many seconds it might be allowed; None if not by waiting.
    """

    def __init__(self, detail: str, *, rule: str, retry_after_s: float | None) -> None:
        super().__init__(detail)
        self.rule = rule
        self.retry_after_s = retry_after_s


class SignerClosedError(RefusedError):
    """The signer was closed and has forgotten its keys."""


class SealSourceError(RefusedError):
    """No way to seal was given where one is needed, or more than one was."""


class SealTooWeakError(RefusedError):
    """The seed is sealed in a way that is not good enough for what is asked; reseal it first. Nothing was changed."""


class SealMismatchError(RefusedError):
    """The seed is sealed in another way than the one given; reseal it, or give the way it was sealed."""


class SealKeyMissingError(RefusedError):
    """The sealed seed is there, the key that opens it is not. Nothing was changed.

    Attributes:
        where: the file or keyring entry that was looked for.
    """

    def __init__(self, detail: str, *, where: str) -> None:
        super().__init__(detail)
        self.where = where


class SealFileUnsafeError(RefusedError):
    """A file that holds or opens a secret can be read or changed by others, or stands where it must not.

    Attributes:
        path: the file or directory.
    """

    def __init__(self, detail: str, *, path: str) -> None:
        super().__init__(detail)
        self.path = path


class KeyringUnsafeError(RefusedError):
    """The operating system offers no keyring that protects what it stores."""


class PairingError(RefusedError):
    """A certificate between bank and signer is missing, damaged, out of date or not the one that was agreed on.

    Attributes:
        path: the file.
    """

    def __init__(self, detail: str, *, path: str) -> None:
        super().__init__(detail)
        self.path = path


class PassphraseWrongError(SealBrokenError):
    """The passphrase does not open the seed (or the sealed file was changed; the two cannot be told apart)."""


class SeedMissingError(RefusedError):
    """There is no sealed seed of this name."""


class SeedExistsError(RefusedError):
    """There is a sealed seed of this name already; a seed is never overwritten."""


class SeedMalformedError(MalformedError):
    """The sealed seed file is damaged, or made by a version this one does not know."""


class CapabilityMissingError(RefusedError):
    """The provider that holds the key cannot do this.

    Attributes:
        provider: its name, as `Capabilities` gives it.
        capability: what lacks, in a few words.
    """

    def __init__(self, *, provider: str, capability: str) -> None:
        super().__init__(f"keys of the provider {provider} cannot do this: it has no {capability}")
        self.provider = provider
        self.capability = capability


class ProviderMissingError(RefusedError):
    """What a provider needs is not on this machine: its Python package or its module."""


class KeyFaultError(InvariantError):
    """What holds the key gave a wrong answer, or holds it in a way that must not be. Nothing was given out."""


class TokenPinError(RefusedError):
    """The token refuses the PIN, or has locked it. It is not tried again: each try may be the last."""


class TokenFullError(RefusedError):
    """The token has no room for another key. Those it has are unharmed."""
