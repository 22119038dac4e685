"""Masks as other programs open them."""
