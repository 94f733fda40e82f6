"""Benchmarks of specie: what the curve allows, what each part costs, what a running bank does (see README.md)."""
