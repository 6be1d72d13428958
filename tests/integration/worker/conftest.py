"""What the tests of the worker share."""

from fixtures.worker import *
