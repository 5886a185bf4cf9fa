"""Step 5: noisy latents of several flows to what they tell each other."""
