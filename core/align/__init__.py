"""Step 3: paired batches to prompts in one shared space."""
