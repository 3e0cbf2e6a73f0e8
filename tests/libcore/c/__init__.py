"""C tests of libcore, and the Python that builds them."""
