"""Redis Streams as a source, read by way of a consumer group."""
