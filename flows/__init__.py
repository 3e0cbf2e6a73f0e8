"""The dataflows; read replicate.py first."""
