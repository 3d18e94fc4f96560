"""How a list of keys is spelt as a table on SQLite, which takes no names for the columns of VALUES."""
