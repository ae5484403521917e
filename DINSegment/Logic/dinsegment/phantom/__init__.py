"""Generated images whose segments are known."""
