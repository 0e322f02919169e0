"""Loss flatness and compressed representations (Chen, Recanatesi, Shea-Brown)."""
