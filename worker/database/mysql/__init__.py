"""MariaDB and MySQL: everything that they do their own way."""
