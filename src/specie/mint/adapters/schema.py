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


def _dialect(integer: str, blob: str, strict: str, strict_keyed: str) -> str:
    return _TABLES.format(integer=integer, blob=blob, strict=strict, strict_keyed=strict_keyed)


MIGRATIONS = (
    Migration(
        room="mint",
        version=1,
        sqlite=_dialect("INTEGER", "BLOB", " STRICT", " STRICT, WITHOUT ROWID"),
        postgres=_dialect("BIGINT", "BYTEA", "", ""),
    ),
    Migration(room="mint", version=2, sqlite=_METHODS.format(integer="INTEGER"), postgres=_METHODS.format(integer="BIGINT")),
)
