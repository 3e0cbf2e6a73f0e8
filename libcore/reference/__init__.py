"""The faces of libcore again in plain, slow, obvious Python: the oracle of the tests and the fallback."""
