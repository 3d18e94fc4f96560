"""SQLite through aiosqlite: everything that is this database's own."""
