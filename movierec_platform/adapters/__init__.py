"""One external system a file; its library's errors become ours here."""
