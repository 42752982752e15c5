"""Single parts beside the libraries that do the same: actors, breakers, retries, all at once."""
