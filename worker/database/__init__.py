"""The database: engine, ledger and dialects. The only place with SQL text or a dialect's name."""
