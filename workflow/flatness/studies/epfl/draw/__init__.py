"""Figures of the EPFL study, a module each."""
