"""Every measure of both papers on the models of both."""
