"""One module per measurement, with `measure() -> rows`."""
