"""Step 5: noisy latents of several flows to the contexts that they give each other."""
