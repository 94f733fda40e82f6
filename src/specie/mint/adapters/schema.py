"""The mint's schema, one migration after another; a released one is never edited."""

from __future__ import annotations

from specie.storage import Migration

__all__ = ["MIGRATIONS"]

_TABLES = """
CREATE TABLE mint_keyset (
  id TEXT PRIMARY KEY,
  unit TEXT NOT NULL,
  position {integer} NOT NULL,
  version {integer} NOT NULL,
  active {integer} NOT NULL,
  input_fee_ppk {integer} NOT NULL,
  final_expiry {integer},
  created_at {integer} NOT NULL,
  configured_fee_ppk {integer} NOT NULL,
  UNIQUE (unit, position)
){strict};
CREATE TABLE mint_proof (
  y {blob} PRIMARY KEY,
  keyset TEXT NOT NULL,
  amount TEXT NOT NULL,
  state {integer} NOT NULL,
  operation {blob} NOT NULL,
  quote TEXT,
  witness TEXT,
  at {integer} NOT NULL
){strict_keyed};
CREATE INDEX mint_proof_pending ON mint_proof (quote) WHERE state = 1;
CREATE TABLE mint_output (
  b_ {blob} PRIMARY KEY,
  keyset TEXT NOT NULL,
  amount TEXT NOT NULL,
  c_ {blob},
  dleq_e {blob},
  dleq_s {blob},
  operation {blob} NOT NULL,
  quote TEXT,
  position {integer} NOT NULL,
  at {integer} NOT NULL
){strict_keyed};
CREATE INDEX mint_output_quote ON mint_output (quote) WHERE quote IS NOT NULL;
CREATE TABLE mint_quote (
  quote TEXT PRIMARY KEY,
  method TEXT NOT NULL,
  rail TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  request TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  pubkey TEXT,
  description TEXT NOT NULL,
  expiry {integer},
  amount_paid TEXT NOT NULL,
  amount_issued TEXT NOT NULL,
  created_at {integer} NOT NULL,
  updated_at {integer} NOT NULL,
  UNIQUE (payment_id, rail)
){strict};
CREATE INDEX mint_quote_created ON mint_quote (created_at);
CREATE TABLE mint_deposit (
  rail TEXT NOT NULL,
  receipt_id TEXT NOT NULL,
  quote TEXT,
  amount TEXT NOT NULL,
  at {integer} NOT NULL,
  PRIMARY KEY (rail, receipt_id)
){strict};
CREATE TABLE mint_cursor (
  rail TEXT PRIMARY KEY,
  position TEXT NOT NULL
){strict};
CREATE TABLE melt_quote (
  quote TEXT PRIMARY KEY,
  method TEXT NOT NULL,
  rail TEXT NOT NULL,
  unit TEXT NOT NULL,
  amount TEXT NOT NULL,
  fee_reserve TEXT NOT NULL,
  request TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  pay_msat TEXT NOT NULL,
  state TEXT NOT NULL,
  expiry {integer},
  created_at {integer} NOT NULL,
  updated_at {integer} NOT NULL,
  preimage TEXT,
  fee_paid TEXT,
  operation {blob},
  attempts {integer} NOT NULL,
  ordered {integer} NOT NULL,
  owner TEXT NOT NULL,
  lease_until {integer} NOT NULL
){strict};
CREATE INDEX melt_quote_created ON melt_quote (created_at);
CREATE INDEX melt_quote_pending ON melt_quote (created_at) WHERE state = 'PENDING';
CREATE TABLE melt_payment (
  rail TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  quote TEXT NOT NULL,
  PRIMARY KEY (rail, payment_id)
){strict};
"""

_LIABILITIES = """
CREATE TABLE mint_epoch (
  number {integer} PRIMARY KEY,
  at {integer} NOT NULL,
  previous_digest {blob} NOT NULL,
  state TEXT NOT NULL
){strict};
CREATE TABLE mint_epoch_keyset (
  epoch {integer} NOT NULL,
  keyset TEXT NOT NULL,
  unit TEXT NOT NULL,
  issued_size {integer} NOT NULL,
  issued_hash {blob} NOT NULL,
  issued_sum TEXT NOT NULL,
  spent_size {integer} NOT NULL,
  spent_hash {blob} NOT NULL,
  spent_sum TEXT NOT NULL,
  active {integer} NOT NULL,
  deactivation TEXT NOT NULL,
  signature {blob},
  PRIMARY KEY (epoch, keyset)
){strict_keyed};
CREATE TABLE mint_leaf (
  side TEXT NOT NULL,
  item {blob} NOT NULL,
  keyset TEXT NOT NULL,
  position {integer} NOT NULL,
  amount TEXT NOT NULL,
  PRIMARY KEY (side, item)
){strict_keyed};
CREATE UNIQUE INDEX mint_leaf_position ON mint_leaf (side, keyset, position);
CREATE TABLE mint_leaf_node (
  side TEXT NOT NULL,
  keyset TEXT NOT NULL,
  height {integer} NOT NULL,
  start {integer} NOT NULL,
  hash {blob} NOT NULL,
  total TEXT NOT NULL,
  PRIMARY KEY (side, keyset, height, start)
){strict_keyed};
CREATE INDEX mint_quote_pubkey ON mint_quote (pubkey, quote) WHERE pubkey IS NOT NULL;
"""
_METHODS = """
ALTER TABLE mint_quote ADD COLUMN reusable {integer} NOT NULL DEFAULT 0;
ALTER TABLE mint_quote ADD COLUMN lost TEXT NOT NULL DEFAULT '0';
ALTER TABLE mint_deposit ADD COLUMN state TEXT NOT NULL DEFAULT 'counted';
CREATE INDEX mint_deposit_quote ON mint_deposit (quote) WHERE quote IS NOT NULL;
ALTER TABLE melt_quote ADD COLUMN partial {integer} NOT NULL DEFAULT 0;
ALTER TABLE melt_quote ADD COLUMN fee_options TEXT NOT NULL DEFAULT '';
ALTER TABLE melt_quote ADD COLUMN fee_index {integer};
ALTER TABLE melt_quote ADD COLUMN outpoint TEXT;
"""
"""Methods beyond BOLT 11. `mint_quote.amount` is '' where there is none: no engine has to rebuild a table for that."""

_AUTH = """
CREATE TABLE mint_auth_token (
  y {blob} PRIMARY KEY,
  keyset TEXT NOT NULL,
  state {integer} NOT NULL,
  holder TEXT NOT NULL,
  lease_until {integer} NOT NULL,
  at {integer} NOT NULL
){strict_keyed};
CREATE INDEX mint_auth_token_reserved ON mint_auth_token (state) WHERE state = 1;
CREATE TABLE mint_auth_output (
  b_ {blob} PRIMARY KEY,
  keyset TEXT NOT NULL,
  c_ {blob} NOT NULL,
  dleq_e {blob} NOT NULL,
  dleq_s {blob} NOT NULL,
  operation {blob} NOT NULL,
  at {integer} NOT NULL
){strict_keyed};
"""
_PRUNED = """
CREATE TABLE mint_pruned (
  keyset TEXT NOT NULL,
  side TEXT NOT NULL,
  count {integer} NOT NULL,
  total TEXT NOT NULL,
  logged_count {integer} NOT NULL,
  logged_total TEXT NOT NULL,
  PRIMARY KEY (keyset, side)
){strict_keyed};
"""
"""What was dropped of expired keysets, and of that what `mint_leaf` holds: audits add it to what is there."""

_ROWS_IN_ORDER = """
CREATE TABLE mint_proof_rows (
  y BLOB NOT NULL PRIMARY KEY,
  keyset TEXT NOT NULL,
  amount TEXT NOT NULL,
  state INTEGER NOT NULL,
  operation BLOB NOT NULL,
  quote TEXT,
  witness TEXT,
  at INTEGER NOT NULL
) STRICT;
INSERT INTO mint_proof_rows SELECT y, keyset, amount, state, operation, quote, witness, at FROM mint_proof;
DROP TABLE mint_proof;
ALTER TABLE mint_proof_rows RENAME TO mint_proof;
CREATE INDEX mint_proof_pending ON mint_proof (quote) WHERE state = 1;
CREATE TABLE mint_output_rows (
  b_ BLOB NOT NULL PRIMARY KEY,
  keyset TEXT NOT NULL,
  amount TEXT NOT NULL,
  c_ BLOB,
  dleq_e BLOB,
  dleq_s BLOB,
  operation BLOB NOT NULL,
  quote TEXT,
  position INTEGER NOT NULL,
  at INTEGER NOT NULL
) STRICT;
INSERT INTO mint_output_rows
  SELECT b_, keyset, amount, c_, dleq_e, dleq_s, operation, quote, position, at FROM mint_output;
DROP TABLE mint_output;
ALTER TABLE mint_output_rows RENAME TO mint_output;
CREATE INDEX mint_output_quote ON mint_output (quote) WHERE quote IS NOT NULL;
"""
"""SQLite: rows one behind another, and a tree of their keys alone: a whole row in a tree of random keys costs a page each."""


_HOMES = """
CREATE TABLE mint_keyset_home (
  keyset TEXT NOT NULL PRIMARY KEY,
  home TEXT NOT NULL
){strict_keyed};
"""
"""Keysets whose keys are not derived from the seed: the provider that has them."""


def _migration(version: int, tables: str) -> Migration:
    return Migration(
        room="mint",
        version=version,
        sqlite=tables.format(integer="INTEGER", blob="BLOB", strict=" STRICT", strict_keyed=" STRICT, WITHOUT ROWID"),
        postgres=tables.format(integer="BIGINT", blob="BYTEA", strict="", strict_keyed=""),
    )


_STEPS = (_TABLES, _LIABILITIES, _METHODS, _AUTH, _PRUNED)

MIGRATIONS = (
    *(_migration(number, tables) for number, tables in enumerate(_STEPS, 1)),
    Migration(room="mint", version=len(_STEPS) + 1, sqlite=_ROWS_IN_ORDER, postgres="SELECT 1", rocksdb=""),
    _migration(len(_STEPS) + 2, _HOMES),
)
"""Steps of the mint's schema, for `Storage.migrate`."""
