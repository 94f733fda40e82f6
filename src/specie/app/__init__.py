"""Composition roots, one module a program: only here are adapters built and handed to engines."""
