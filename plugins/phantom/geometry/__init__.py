"""Points, shapes and layers that the phantom is built of."""
