"""Step 6: prompts to several latents at once, by joint sampling."""
