"""What the tests of the SQLite store share."""

from fixtures.sqlite import *
