"""SQLite through aiosqlite: the package that keeps the promises on it."""
