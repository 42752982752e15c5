"""The store: schema, statements, and the one thread that writes."""
