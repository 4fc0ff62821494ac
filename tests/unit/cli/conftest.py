"""The packages of the tests of the interpreter, for the tests of the command."""

from tests.mil.conftest import *  # noqa: F403
