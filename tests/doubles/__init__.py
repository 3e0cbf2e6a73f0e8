"""Stand-ins for servers that no package brings: each speaks the real protocol from a process of its own."""
