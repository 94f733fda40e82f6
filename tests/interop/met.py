"""Which NUT is met with which peer, and the test that meets it: the source of the tables in the documentation.

`test_met.py` checks every line of it. What a pair cannot do, and why, is written in README.md.
"""

from __future__ import annotations

__all__ = ["CASHU_TS", "MET", "NUTSHELL_MINT", "NUTSHELL_WALLET", "PEERS", "PROVIDER", "UR_LIBRARY"]

CASHU_TS = "cashu-ts wallet"
NUTSHELL_WALLET = "Nutshell wallet"
NUTSHELL_MINT = "Nutshell mint"
UR_LIBRARY = "bc-ur"
PROVIDER = "oidc-provider"
PEERS = (CASHU_TS, NUTSHELL_WALLET, NUTSHELL_MINT, UR_LIBRARY, PROVIDER)

_WALLETS = (CASHU_TS, NUTSHELL_WALLET)
_ALL = (*_WALLETS, NUTSHELL_MINT)


def _with(peers: tuple[str, ...], test: str) -> dict[str, str]:
    return dict.fromkeys(peers, test)


MET: dict[int, dict[str, str]] = {
    0: _with(_ALL, "test_tokens::test_a_token_crosses"),
    1: _with(_ALL, "test_wallets::test_mints"),
    2: {
        **_with(_WALLETS, "test_keysets::test_coins_of_a_replaced_keyset_stay_good"),
        NUTSHELL_MINT: "test_troubles::test_coins_are_moved_off_a_keyset_that_a_mint_has_left",
    },
    3: _with(_ALL, "test_wallets::test_swaps"),
    4: _with(_ALL, "test_wallets::test_mints"),
    5: _with(_ALL, "test_wallets::test_melts_a_strangers_invoice"),
    6: _with(_ALL, "test_wallets::test_mints"),
    7: _with(_ALL, "test_wallets::test_swaps"),
    8: _with(_ALL, "test_wallets::test_melts_a_strangers_invoice"),
    9: _with(_ALL, "test_wallets::test_restores_from_its_words"),
    10: _with(_ALL, "test_tokens::test_a_locked_token_crosses"),
    11: _with(_ALL, "test_tokens::test_a_locked_token_crosses"),
    12: _with(_ALL, "test_trust::test_a_token_with_a_false_dleq_is_refused"),
    13: _with(_ALL, "test_words::test_another_wallet_restores_the_words"),
    14: _with(_ALL, "test_tokens::test_a_hash_locked_token_crosses"),
    15: _with(_WALLETS, "test_methods::test_an_invoice_is_paid_by_two_mints"),
    16: {UR_LIBRARY: "test_frames::test_their_frames_are_ours"},
    17: {
        CASHU_TS: "test_methods::test_a_quote_of_any_method_is_told",
        NUTSHELL_WALLET: "test_payments::test_spent_coins_are_told_to_a_subscriber",
        NUTSHELL_MINT: "test_wallets::test_hears_of_a_payment_by_subscription",
    },
    18: _with(_WALLETS, "test_requests::test_a_peer_pays_our_request"),
    19: {CASHU_TS: "test_methods::test_a_quote_is_minted_by_either_signature"},
    20: {
        CASHU_TS: "test_methods::test_a_quote_is_minted_by_either_signature",
        **_with((NUTSHELL_WALLET, NUTSHELL_MINT), "test_wallets::test_mints_from_a_quote_locked_to_its_key"),
    },
    21: {
        CASHU_TS: "test_auth::test_cashu_ts_with_a_login_and_blind_tokens",
        NUTSHELL_WALLET: "test_auth::test_nutshell_with_a_login_and_blind_tokens",
        NUTSHELL_MINT: "test_auth::test_our_wallet_at_a_guarded_mint_of_nutshell",
        PROVIDER: "test_auth::test_our_wallet_with_a_browser",
    },
    22: {
        CASHU_TS: "test_auth::test_cashu_ts_with_a_login_and_blind_tokens",
        NUTSHELL_WALLET: "test_auth::test_nutshell_with_a_login_and_blind_tokens",
        NUTSHELL_MINT: "test_auth::test_our_wallet_at_a_guarded_mint_of_nutshell",
    },
    23: _with(_ALL, "test_wallets::test_melts_a_strangers_invoice"),
    25: {CASHU_TS: "test_methods::test_an_offer_is_paid"},
    26: _with(_WALLETS, "test_requests::test_we_read_what_a_peer_writes"),
    28: _with(_WALLETS, "test_blinded_locks::test_a_blinded_token_crosses"),
    29: {
        CASHU_TS: "test_methods::test_quotes_are_minted_together",
        NUTSHELL_MINT: "test_methods::test_our_wallet_mints_together_at_nutshell",
    },
    30: {CASHU_TS: "test_methods::test_an_address_is_paid_at_a_chosen_fee"},
}
"""NUT, peer, and `module::function` below tests/interop."""
