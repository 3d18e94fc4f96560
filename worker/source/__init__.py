"""Where rows come from: inline, CSV and NDJSON files, read as a stream, and their validation against a table."""
