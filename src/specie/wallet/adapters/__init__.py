"""Plugs of the wallet: a mint over HTTP, and tables in an SQL store."""
