"""Synthetic customer feedback for demonstrations: seeded and labelled.

It is hard enough that word order matters.
"""
