"""Figures of the compression study from tidy tables, a module each.

`trends` draws figures 1 and 2 and the same of other families: one drawing, by another factor.
"""
