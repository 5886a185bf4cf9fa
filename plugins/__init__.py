"""Built-in plugins: one package per source of modalities, found by entry points like everybody else's."""
