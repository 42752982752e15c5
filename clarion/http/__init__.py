"""The HTTP surface: JSON API, health, metrics and the page at `/`."""
