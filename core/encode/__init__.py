"""Step 2: batch to latent with unit variance, and back."""
