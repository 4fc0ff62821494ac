"""The small lowered programs of the tests of execution, read by the tests of their format."""

from tests.pte.conftest import *  # noqa: F403
