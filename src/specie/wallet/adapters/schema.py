"""The wallet's tables. Amounts are decimal TEXT, exact to 2^64-1; ids and points as in the values they hold."""

from __future__ import annotations

from specie.storage.ports import Migration

__all__ = ["MIGRATIONS"]

_TABLES = """
CREATE TABLE wallet_mint (
  url TEXT PRIMARY KEY,
  position BIGINT NOT NULL,
  info BLOB NOT NULL,
  added_at BIGINT NOT NULL,
  refreshed_at BIGINT NOT NULL
);
CREATE TABLE wallet_keyset (
  id TEXT PRIMARY KEY,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  active BIGINT NOT NULL,
  listed BIGINT NOT NULL,
  input_fee_ppk TEXT NOT NULL,
  final_expiry TEXT,
  keys TEXT NOT NULL,
  derivation BIGINT UNIQUE
);
CREATE TABLE wallet_counter (
  mint TEXT NOT NULL,
  keyset TEXT NOT NULL,
  next TEXT NOT NULL,
  PRIMARY KEY (mint, keyset)
);
CREATE TABLE wallet_key_index (
  purpose TEXT PRIMARY KEY,
  next BIGINT NOT NULL
);
CREATE TABLE wallet_key (
  purpose TEXT NOT NULL,
  number BIGINT NOT NULL,
  public_key BLOB NOT NULL,
  PRIMARY KEY (purpose, number)
);
CREATE TABLE wallet_proof (
  y BLOB PRIMARY KEY,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  keyset TEXT NOT NULL,
  amount TEXT NOT NULL,
  secret TEXT NOT NULL,
  c BLOB NOT NULL,
  witness TEXT,
  dleq_e BLOB,
  dleq_s BLOB,
  dleq_r BLOB,
  p2pk_e BLOB,
  state TEXT NOT NULL,
  operation TEXT,
  token TEXT,
  unswapped BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL
);
CREATE INDEX wallet_proof_held ON wallet_proof (mint, unit, state) WHERE state <> 'SPENT';
CREATE INDEX wallet_proof_operation ON wallet_proof (operation) WHERE state = 'RESERVED';
CREATE INDEX wallet_proof_token ON wallet_proof (token) WHERE token IS NOT NULL;
CREATE TABLE wallet_operation (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  purpose TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee TEXT NOT NULL,
  request BLOB NOT NULL,
  inputs BLOB NOT NULL,
  method TEXT NOT NULL,
  quote TEXT,
  memo TEXT,
  include_dleq BIGINT NOT NULL,
  locked BIGINT NOT NULL,
  state TEXT NOT NULL,
  error TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX wallet_operation_quote ON wallet_operation (mint, quote) WHERE state = 'OPEN' AND quote IS NOT NULL;
CREATE INDEX wallet_operation_open ON wallet_operation (state) WHERE state = 'OPEN';
CREATE TABLE wallet_output (
  operation TEXT NOT NULL,
  position BIGINT NOT NULL,
  role TEXT NOT NULL,
  amount TEXT NOT NULL,
  keyset TEXT NOT NULL,
  secret TEXT NOT NULL,
  r BLOB NOT NULL,
  b_ BLOB NOT NULL,
  counter TEXT,
  PRIMARY KEY (operation, position)
);
CREATE TABLE wallet_mint_quote (
  mint TEXT NOT NULL,
  quote TEXT NOT NULL,
  method TEXT NOT NULL,
  unit TEXT NOT NULL,
  request TEXT NOT NULL,
  amount TEXT,
  expiry TEXT,
  amount_paid TEXT NOT NULL,
  amount_issued TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  key_index BIGINT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (mint, quote)
);
CREATE TABLE wallet_melt_quote (
  mint TEXT NOT NULL,
  quote TEXT NOT NULL,
  method TEXT NOT NULL,
  unit TEXT NOT NULL,
  request TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee_reserve TEXT NOT NULL,
  state TEXT NOT NULL,
  expiry TEXT,
  preimage TEXT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (mint, quote)
);
CREATE TABLE wallet_token (
  id TEXT PRIMARY KEY,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  text TEXT NOT NULL,
  memo TEXT,
  state TEXT NOT NULL,
  locked BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE wallet_history (
  id TEXT PRIMARY KEY,
  at BIGINT NOT NULL,
  kind TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee TEXT NOT NULL,
  memo TEXT,
  reference TEXT
);
"""

_REQUESTS = """
CREATE TABLE wallet_request (
  id TEXT PRIMARY KEY,
  text TEXT NOT NULL,
  key_number BIGINT,
  created_at BIGINT NOT NULL,
  cancelled_at BIGINT
);
CREATE TABLE wallet_request_receipt (
  id TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee TEXT NOT NULL,
  memo TEXT,
  created_at BIGINT NOT NULL,
  operation TEXT NOT NULL,
  coins BLOB NOT NULL UNIQUE,
  single BIGINT NOT NULL
);
CREATE UNIQUE INDEX wallet_request_receipt_once ON wallet_request_receipt (request) WHERE single = 1;
CREATE INDEX wallet_request_receipt_of ON wallet_request_receipt (request);
CREATE TABLE wallet_request_payment (
  id TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  memo TEXT,
  created_at BIGINT NOT NULL,
  operation TEXT NOT NULL,
  delivered_by TEXT,
  delivered_at BIGINT,
  error TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  single BIGINT NOT NULL
);
CREATE UNIQUE INDEX wallet_request_payment_once ON wallet_request_payment (fingerprint) WHERE single = 1;
CREATE INDEX wallet_request_payment_of ON wallet_request_payment (fingerprint);
"""


_LIABILITIES = """
CREATE TABLE wallet_liability (
  mint TEXT PRIMARY KEY,
  view BLOB NOT NULL
);
CREATE TABLE wallet_liability_leaf (
  mint TEXT NOT NULL,
  side TEXT NOT NULL,
  item BLOB NOT NULL,
  y BLOB NOT NULL,
  keyset TEXT NOT NULL,
  position TEXT NOT NULL,
  PRIMARY KEY (mint, side, item)
);
CREATE TABLE wallet_evidence (
  id TEXT PRIMARY KEY,
  mint TEXT NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  at BIGINT NOT NULL
);
"""


_KEYS_AND_TOLLS = """
ALTER TABLE wallet_output ADD COLUMN p2pk_e BLOB;
CREATE TABLE wallet_taking (
  name TEXT PRIMARY KEY,
  resource TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  settle TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  deliveries BIGINT NOT NULL,
  answered_at BIGINT
);
CREATE INDEX wallet_taking_created ON wallet_taking (created_at);
CREATE TABLE wallet_toll (
  id TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  resource TEXT NOT NULL,
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  state TEXT NOT NULL,
  token TEXT,
  created_at BIGINT NOT NULL
);
CREATE INDEX wallet_toll_host ON wallet_toll (host, created_at);
"""
"""The ephemeral key of an output locked to blinded keys (NUT-28), and payments for resources on both sides (NUT-24)."""


_SECRETS = """
CREATE TABLE wallet_secret (
  name TEXT PRIMARY KEY,
  sealed BLOB NOT NULL,
  changed_at BIGINT NOT NULL
);
"""

_BLIND_TOKENS = """
CREATE TABLE wallet_blind_token (
  secret TEXT PRIMARY KEY,
  mint TEXT NOT NULL,
  keyset TEXT NOT NULL,
  r BLOB NOT NULL,
  batch TEXT NOT NULL,
  position BIGINT NOT NULL,
  c BLOB,
  state TEXT NOT NULL,
  changed_at BIGINT NOT NULL
);
CREATE INDEX wallet_blind_token_pool ON wallet_blind_token (mint, state, batch, position);
"""


_METHODS = """
ALTER TABLE wallet_melt_quote ADD COLUMN fee_options TEXT NOT NULL DEFAULT '[]';
ALTER TABLE wallet_melt_quote ADD COLUMN fee_index BIGINT;
ALTER TABLE wallet_melt_quote ADD COLUMN outpoint TEXT;
ALTER TABLE wallet_melt_quote ADD COLUMN part_msat TEXT;
CREATE INDEX wallet_melt_quote_request ON wallet_melt_quote (lower(request));
CREATE TABLE wallet_claim (
  operation TEXT NOT NULL,
  position BIGINT NOT NULL,
  mint TEXT NOT NULL,
  quote TEXT NOT NULL,
  amount TEXT NOT NULL,
  issued TEXT NOT NULL,
  open BIGINT NOT NULL,
  PRIMARY KEY (operation, position)
);
CREATE UNIQUE INDEX wallet_claim_open ON wallet_claim (mint, quote) WHERE open = 1;
CREATE TABLE wallet_payment (
  id TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  memo TEXT,
  created_at BIGINT NOT NULL
);
CREATE TABLE wallet_payment_part (
  payment TEXT NOT NULL,
  position BIGINT NOT NULL,
  mint TEXT NOT NULL,
  quote TEXT NOT NULL,
  operation TEXT NOT NULL,
  part_msat TEXT NOT NULL,
  PRIMARY KEY (payment, position)
);
CREATE UNIQUE INDEX wallet_payment_part_operation ON wallet_payment_part (operation);
"""


_PLACEMENT = """
CREATE TABLE wallet_transfer (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL,
  destination TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee TEXT NOT NULL,
  mint_quote TEXT NOT NULL,
  melt_quote TEXT NOT NULL,
  state TEXT NOT NULL,
  error TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX wallet_transfer_open ON wallet_transfer (state) WHERE state IN ('PAYING', 'PAID');
CREATE UNIQUE INDEX wallet_transfer_quote ON wallet_transfer (source, melt_quote);
CREATE TABLE wallet_leaving (
  mint TEXT PRIMARY KEY,
  destinations TEXT NOT NULL,
  since BIGINT NOT NULL
);
CREATE TABLE wallet_health (
  mint TEXT PRIMARY KEY,
  failures BIGINT NOT NULL,
  failing_since BIGINT,
  failed_at BIGINT,
  answered_at BIGINT
);
CREATE TABLE wallet_target (
  mint TEXT NOT NULL,
  unit TEXT NOT NULL,
  share_ppm BIGINT,
  maximum TEXT,
  PRIMARY KEY (mint, unit)
);
CREATE TABLE wallet_policy (
  name TEXT PRIMARY KEY,
  text TEXT NOT NULL
);
"""

_WATCH = """
ALTER TABLE wallet_leaving ADD COLUMN cost_ppm BIGINT NOT NULL DEFAULT 200000;
ALTER TABLE wallet_leaving ADD COLUMN again_at BIGINT NOT NULL DEFAULT 0;
"""
"""What a departure may cost, and when it is tried again by itself."""


def _migration(version: int, tables: str) -> Migration:
    strict = tables.replace("BIGINT", "INTEGER").replace("\n);", "\n) STRICT;")
    return Migration("wallet", version, strict, tables.replace("BLOB", "BYTEA"))


_STEPS = (_TABLES, _REQUESTS, _LIABILITIES, _KEYS_AND_TOLLS, _SECRETS, _BLIND_TOKENS, _METHODS, _PLACEMENT, _WATCH)

MIGRATIONS = tuple(_migration(number, tables) for number, tables in enumerate(_STEPS, 1))
"""Steps of the wallet's schema, for `Storage.migrate`."""
