"""Plugs of the mint; imported by `app` only."""
