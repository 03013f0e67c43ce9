"""Whether the latents of a task matter to the model, on that task more than on others (`causal=ablate`)."""
