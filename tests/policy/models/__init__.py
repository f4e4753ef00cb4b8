"""Reference models: slow, obvious, and written from the definitions, to hold the real machines to."""
