"""What is known of the devices that a mint's keys may live in: one table, honest about what was run and what was read.

What a device really does is found out by `specie keys probe`; nothing here is relied on by code.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "UNTESTED", "ProviderProfile"]

UNTESTED = "untested on the device"
"""Said of every device that none of our tests has run on."""


@dataclass(frozen=True, slots=True)
class ProviderProfile:
    """One device, or kind of it."""

    name: str
    provider: str
    """As `Capabilities.provider` names it."""
    module: str
    """Its PKCS#11 module as the maker calls it; empty for none."""
    curves: str
    """Curves that matter here."""
    mechanisms: str
    """Mechanisms that matter here, by their names in PKCS#11."""
    mint: str
    """Whether a mint's keys can live there."""
    limits: str
    evidence: str
    """`run in our tests`, or `UNTESTED`."""


PROFILES = (
    ProviderProfile(
        name="software",
        provider="software",
        module="",
        curves="secp256k1",
        mechanisms="everything, DLEQ among it",
        mint="yes",
        limits="the seed is in the memory of the process",
        evidence="run in our tests",
    ),
    ProviderProfile(
        name="SoftHSM2",
        provider="pkcs11",
        module="libsofthsm2.so",
        curves="secp256k1",
        mechanisms="ECDSA, ECDH1_DERIVE, AES_GCM",
        mint="yes, without DLEQ",
        limits="files under a PIN: for trying out, no protection by hardware",
        evidence="run in our tests",
    ),
    ProviderProfile(
        name="YubiHSM 2",
        provider="pkcs11",
        module="yubihsm_pkcs11.so",
        curves="secp256k1",
        mechanisms="ECDSA, ECDH1_DERIVE; no AES_GCM",
        mint="should, without DLEQ; no wrapping",
        limits="256 objects and 126 KB: at most three keysets of 64 amounts; labels of 40 bytes",
        evidence=UNTESTED,
    ),
    ProviderProfile(
        name="AWS CloudHSM (SDK 5)",
        provider="pkcs11",
        module="libcloudhsm_pkcs11.so",
        curves="secp256k1",
        mechanisms="ECDSA; ECDH1_DERIVE through a KDF only; AES_GCM with the nonce of the HSM",
        mint="no: x alone is never given out; other keys should",
        limits="PIN is user:password; no wrapping",
        evidence=UNTESTED,
    ),
    ProviderProfile(
        name="Thales Luna 7",
        provider="pkcs11",
        module="libCryptoki2_64.so",
        curves="secp256k1, not in FIPS mode",
        mechanisms="ECDSA, ECDH1_DERIVE, AES_GCM",
        mint="should outside FIPS mode, without DLEQ",
        limits="newer firmware refuses ECDH on this curve in FIPS mode; AES_GCM may ask for its own nonce",
        evidence=UNTESTED,
    ),
    ProviderProfile(
        name="Nitrokey HSM 2",
        provider="pkcs11",
        module="opensc-pkcs11.so",
        curves="secp256k1",
        mechanisms="ECDSA, ECDH1_DERIVE; no AES_GCM",
        mint="should, without DLEQ; no wrapping",
        limits="76 KB: four keysets of 64 amounts at most; slow; session keys are written to the device, then destroyed",
        evidence=UNTESTED,
    ),
    ProviderProfile(
        name="tpm2-pkcs11",
        provider="pkcs11",
        module="libtpm2_pkcs11.so",
        curves="no secp256k1",
        mechanisms="ECDSA and RSA on other curves",
        mint="no",
        limits="no key of this program can live there",
        evidence=UNTESTED,
    ),
)
"""All that `specie keys providers` shows."""
