"""Images: `{train,test}_inputs` (n, channels, height, width) of bytes, `…_targets` (n,)."""
