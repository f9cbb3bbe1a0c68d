"""One engine a file; each imports its library only when the engine is made."""
