"""The same quantities on the same weights by every library that has them: `make concordance`."""
