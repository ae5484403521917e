"""The second image that the network sees, and that the user is shown."""
