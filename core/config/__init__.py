"""Settings: TOML tables, presets, recipes, the registry and the resolved configuration of a run."""
