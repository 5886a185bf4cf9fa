"""The audit: what is in a data set, and what a user should look at before training."""
