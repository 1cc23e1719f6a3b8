"""Models from and to other formats: Hugging Face directories."""
