"""Where state and recovery live on disk."""
