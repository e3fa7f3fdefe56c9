"""The whole platform on one machine with nothing installed but Python: real servers, each a child process."""
