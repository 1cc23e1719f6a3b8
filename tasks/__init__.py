"""From text to features."""
