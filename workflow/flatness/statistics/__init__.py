"""Correlations with intervals and p-values, over models that are clustered by seed."""
