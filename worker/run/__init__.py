"""Running: one attempt from claim to outcome, its chunks, its feed of rows, and what it tells the world."""
