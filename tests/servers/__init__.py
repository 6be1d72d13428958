"""
Real servers for the tests: started without root rights, Docker or a network, and gone when their test process is.

The fixtures (`fixtures.py`) are there for every test; a test that needs more imports from here:
`from servers.installation import installations`.
"""
