"""Cashu as values and functions; pure. JSON is in `ecash.wire`, error codes with one class each in `ecash.codes`."""

from specie.ecash import codes, wire
from specie.ecash.bdhke import blind, hash_to_curve, unblind
from specie.ecash.blank import PLACEHOLDER_AMOUNT, blank_count, change_amounts
from specie.ecash.codes import ConditionMalformedError, ConditionUnmetError, error_from_code
from specie.ecash.derive import derive, p2pk_secret_key, quote_secret_key
from specie.ecash.dleq import verify_dleq, verify_proof_dleq
from specie.ecash.info import Contact, MethodSetting, MintInfo
from specie.ecash.keyset import (
    Keyset,
    KeysetInfo,
    derive_keyset_id,
    fee_for,
    is_expired,
    keyset_id_checked,
    resolve_keyset_id,
    short_keyset_id,
    verify_keyset_id,
)
from specie.ecash.proof import BlindedMessage, BlindSignature, Dleq, Proof, ProofDleq, ProofState, State, sum_amounts, y
from specie.ecash.quote import (
    MeltQuote,
    MeltQuoteRequest,
    MeltState,
    MintQuote,
    MintQuoteRequest,
    MintState,
    quote_signature_digest,
    quote_signature_digests,
    verify_quote_signature,
)
from specie.ecash.scheme import Scheme, scheme_for
from specie.ecash.transaction import MeltRequest, MintRequest, SwapRequest, blinded_message, unblind_signature

__all__ = [
    "PLACEHOLDER_AMOUNT",
    "BlindSignature",
    "BlindedMessage",
    "ConditionMalformedError",
    "ConditionUnmetError",
    "Contact",
    "Dleq",
    "Keyset",
    "KeysetInfo",
    "MeltQuote",
    "MeltQuoteRequest",
    "MeltRequest",
    "MeltState",
    "MethodSetting",
    "MintInfo",
    "MintQuote",
    "MintQuoteRequest",
    "MintRequest",
    "MintState",
    "Proof",
    "ProofDleq",
    "ProofState",
    "Scheme",
    "State",
    "SwapRequest",
    "blank_count",
    "blind",
    "blinded_message",
    "change_amounts",
    "codes",
    "derive",
    "derive_keyset_id",
    "error_from_code",
    "fee_for",
    "hash_to_curve",
    "is_expired",
    "keyset_id_checked",
    "p2pk_secret_key",
    "quote_secret_key",
    "quote_signature_digest",
    "quote_signature_digests",
    "resolve_keyset_id",
    "scheme_for",
    "short_keyset_id",
    "sum_amounts",
    "unblind",
    "unblind_signature",
    "verify_dleq",
    "verify_keyset_id",
    "verify_proof_dleq",
    "verify_quote_signature",
    "wire",
    "y",
]
