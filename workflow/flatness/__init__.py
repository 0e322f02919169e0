"""Sharpness of the loss and compression of representations: measures, bounds, two replications."""
