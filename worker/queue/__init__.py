"""The queue edge: everything that knows arq and its wire."""
