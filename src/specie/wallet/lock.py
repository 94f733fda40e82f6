"""What a caller asks for when a payment is to be locked: to keys (NUT-11) or to a hash (NUT-14).

Values only; `engine` builds secrets of them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HTLC", "P2PK"]


@dataclass(frozen=True, slots=True)
class P2PK:
    """Only the holders of these keys can spend it.

    Keys are hex: 33 bytes compressed, or 32 bytes x-only (Nostr), which becomes `02` + x.

    Attributes:
        pubkeys: at least one.
        n_sigs: how many of them must sign.
        locktime: Unix seconds after which `refund` may spend too (or, without `refund`, anyone).
        refund: keys of the sender's pathway, open after `locktime`; needs `locktime`.
        n_sigs_refund: how many of those must sign.
        sig_all: one signature covers all inputs and outputs of the spending (SIG_ALL).
        blinded: hide the keys from the mint, afresh for every coin (NUT-28). At most 11 keys; the receiver's wallet must
            know NUT-28, and `n_sigs` still counts keys, not people.
    """

    pubkeys: tuple[str, ...]
    n_sigs: int = 1
    locktime: int | None = None
    refund: tuple[str, ...] = ()
    n_sigs_refund: int = 1
    sig_all: bool = False
    blinded: bool = False


@dataclass(frozen=True, slots=True)
class HTLC:
    """Whoever knows the preimage (and holds `n_sigs` of `pubkeys`, if any) can spend it; `refund` after `locktime`.

    Attributes:
        payment_hash: hex of SHA-256 of the 32-byte preimage.
        pubkeys, n_sigs, locktime, refund, n_sigs_refund, sig_all, blinded: as in `P2PK`; `pubkeys` may be empty, but some key
            must be there to be blinded, at most 10. The hash is not blinded.
    """

    payment_hash: str
    pubkeys: tuple[str, ...] = ()
    n_sigs: int = 1
    locktime: int | None = None
    refund: tuple[str, ...] = ()
    n_sigs_refund: int = 1
    sig_all: bool = False
    blinded: bool = False
