"""Step 4: noisy latent, noise level and prompt to a prediction."""
