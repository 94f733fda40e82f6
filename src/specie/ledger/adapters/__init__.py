"""Plugs of the ledger; imported by `app` only."""
