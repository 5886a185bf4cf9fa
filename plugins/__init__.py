"""Built-in plugins, a package each, which are discovered by entry points like all others."""
