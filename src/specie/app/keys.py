"""Where keys may live: the trial of a token that settings name. Here its provider is plugged in, for trials and for banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from specie.app.secret_sources import revealed
from specie.app.system import SystemEntropy
from specie.kernel.errors import RefusedError
from specie.keys.adapters.token import TokenSigner, TokenTrial, pin_checked, pin_from_file, token_signer
from specie.keys.adapters.token_session import TokenFacts, TokenPlace

if TYPE_CHECKING:
    from specie.keys import Capabilities
    from specie.ops.settings import Pkcs11Settings

__all__ = ["TokenIncompleteError", "TokenProbe", "open_token", "probe_token"]


class TokenIncompleteError(RefusedError):
    """The settings name no token, or no PIN for it."""


@dataclass(frozen=True, slots=True)
class TokenProbe:
    """What a token said and did. `trial` is None where it has not even ECDSA on secp256k1."""

    facts: TokenFacts
    capabilities: Capabilities
    trial: TokenTrial | None


async def probe_token(settings: Pkcs11Settings, *, rounds: int = 20) -> TokenProbe:
    """Log in, try out what the token can do with keys made for the moment, prove every answer, and leave nothing behind.

    TokenIncompleteError, and the errors of `token_signer` and `TokenSigner.trial`.
    """
    signer = await open_token(settings)
    try:
        trial = await signer.trial(rounds) if signer.facts.secp256k1 else None
    finally:
        await signer.close()
    return TokenProbe(signer.facts, signer.capabilities(), trial)


async def open_token(settings: Pkcs11Settings, namespace: str = "specie") -> TokenSigner:
    """The signer of the token that settings name; `namespace` as of `TokenPlace`.

    TokenIncompleteError, and the errors of `token_signer`.
    """
    if settings.module is None or not settings.token:
        raise TokenIncompleteError("which token? Give --module and --token, or keys.pkcs11.module and keys.pkcs11.token")
    secret, file = settings.pin, settings.pin_file
    if secret is not None:
        pin = lambda: pin_checked(revealed(secret).encode())  # noqa: E731
    elif file is not None:
        pin = lambda: pin_from_file(file)  # noqa: E731
    else:
        raise TokenIncompleteError("no PIN: give --pin-file, keys.pkcs11.pin_file or the variable SPECIE_KEYS_PKCS11_PIN")
    place = TokenPlace(settings.module, settings.token, namespace)
    return await token_signer(place, pin=pin, entropy=SystemEntropy(), deadline_s=settings.deadline_s)
