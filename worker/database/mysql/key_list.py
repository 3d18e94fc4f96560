"""A list of keys as a table, as MariaDB and MySQL spell it."""
