"""Figures of the compression study, each from tidy tables."""
