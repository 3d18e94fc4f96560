"""Pure decisions and values: no I/O, no logging; time and randomness are passed in."""
