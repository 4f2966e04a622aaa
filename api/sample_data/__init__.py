"""Synthetic customer feedback for demonstrations: seeded, labelled, and hard enough that word order matters."""
