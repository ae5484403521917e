"""Volumes, and what a beating heart's phases tell."""
