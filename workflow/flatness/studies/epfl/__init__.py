"""Adaptive sharpness against test loss (Hammoud, Liossatos, Nicollier)."""
