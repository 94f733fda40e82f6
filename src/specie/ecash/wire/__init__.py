"""The JSON of the NUTs, bytes to values and values to bytes; nobody else builds those bodies.

Decoders take `limits` and raise MalformedError, or the leaf that has a NUT code. Unknown fields are ignored, amounts are
exact to 2^64-1, booleans and floats are no integers.
"""

from specie.ecash.wire.about import error_from_json, error_to_json, info_from_json, info_to_json
from specie.ecash.wire.backup import mint_list_from_json, mint_list_to_json
from specie.ecash.wire.coins import (
    check_state_request_from_json,
    check_state_request_to_json,
    proofs_from_json,
    proofs_to_json,
    restore_from_json,
    restore_request_from_json,
    restore_request_to_json,
    restore_to_json,
    signatures_from_json,
    signatures_to_json,
    states_from_json,
    states_to_json,
    swap_request_from_json,
    swap_request_to_json,
)
from specie.ecash.wire.keys import keys_from_json, keys_to_json, keysets_from_json, keysets_to_json
from specie.ecash.wire.notifications import (
    notification_to_json,
    payload_from_json,
    rpc_error_to_json,
    rpc_message_from_json,
    rpc_request_from_json,
    rpc_request_to_json,
    rpc_result_to_json,
)
from specie.ecash.wire.quotes import (
    melt_quote_from_json,
    melt_quote_request_from_json,
    melt_quote_request_to_json,
    melt_quote_to_json,
    melt_request_from_json,
    melt_request_to_json,
    method_checked,
    mint_quote_from_json,
    mint_quote_request_from_json,
    mint_quote_request_to_json,
    mint_quote_to_json,
    mint_request_from_json,
    mint_request_to_json,
)
from specie.ecash.wire.requests import payment_payload_from_json, payment_payload_to_json

__all__ = [
    "check_state_request_from_json",
    "check_state_request_to_json",
    "error_from_json",
    "error_to_json",
    "info_from_json",
    "info_to_json",
    "keys_from_json",
    "keys_to_json",
    "keysets_from_json",
    "keysets_to_json",
    "melt_quote_from_json",
    "melt_quote_request_from_json",
    "melt_quote_request_to_json",
    "melt_quote_to_json",
    "melt_request_from_json",
    "melt_request_to_json",
    "method_checked",
    "mint_list_from_json",
    "mint_list_to_json",
    "mint_quote_from_json",
    "mint_quote_request_from_json",
    "mint_quote_request_to_json",
    "mint_quote_to_json",
    "mint_request_from_json",
    "mint_request_to_json",
    "notification_to_json",
    "payload_from_json",
    "payment_payload_from_json",
    "payment_payload_to_json",
    "proofs_from_json",
    "proofs_to_json",
    "restore_from_json",
    "restore_request_from_json",
    "restore_request_to_json",
    "restore_to_json",
    "rpc_error_to_json",
    "rpc_message_from_json",
    "rpc_request_from_json",
    "rpc_request_to_json",
    "rpc_result_to_json",
    "signatures_from_json",
    "signatures_to_json",
    "states_from_json",
    "states_to_json",
    "swap_request_from_json",
    "swap_request_to_json",
]
