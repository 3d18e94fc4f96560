"""The command line `heavylift`: for people at a terminal, and for scripts that read its output."""
