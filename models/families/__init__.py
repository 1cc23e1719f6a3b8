"""Published model families: their configurations read and written, and the names of their tensors."""
