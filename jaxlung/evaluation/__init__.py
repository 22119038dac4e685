"""Scores of models and of masks, and their report."""
