"""Adds the locks to an installed library. All else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithLocks(build_py):
    """Copies envs/*.lock to where pte_foundry.lock looks for them outside a clone."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for lock in (*sorted(Path("envs").glob("*.lock")), Path("envs/models.in")):
                self.mkpath(f"{self.build_lib}/pte_foundry/locks")
                self.copy_file(str(lock), f"{self.build_lib}/pte_foundry/locks/{lock.name}")


setup(cmdclass={"build_py": BuildWithLocks})
