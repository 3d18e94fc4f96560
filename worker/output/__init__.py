"""Files of rows, made exactly once: from what is asked for to a whole file in its place."""
