"""Transformers: average-case sharpness against normalized MLS (Chen et al., figure 4)."""
