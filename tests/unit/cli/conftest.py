"""What the tests of the command share."""

from fixtures.cli import *
