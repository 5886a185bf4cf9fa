"""From the body to radiographs, slices and masks."""
