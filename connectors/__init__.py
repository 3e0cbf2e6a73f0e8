"""Everything that talks to the outside; one folder a system, the same file names in each."""
