"""Kafka topics as a source: configuration, the Bytewax source, and the two readers behind it."""
