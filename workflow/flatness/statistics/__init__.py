"""Correlations with their intervals and p-values, over models that come in clusters of seeds."""
