"""PostgreSQL through asyncpg: everything that is this database's own."""
