"""The run that all tests of this folder train: the toy flow, short, with every step in its log."""

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--phase", "autoencoder,align,diffuse"]
SHORT = ["--steps", "40", "--set", "training.log_every=1", "--set", "training.save_every=7"]
