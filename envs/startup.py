"""Makes the clone's packages and torchvision importable, in every Python of the environment.

envs/create.py copies it into site-packages, next to a .pth file that imports it. A .pth file with
relative paths would not do: site joins them by name to the path that Python was started with, which
is one level less deep through the link `.venv`.
"""

import fcntl
import os
import sys

PACKAGES = ("scripts", "scripts/pte_foundry/progress")

started_as = os.path.abspath(sys.prefix)
environment = os.path.realpath(sys.prefix)
root = os.path.dirname(os.path.dirname(environment))

# Another `make` may point the link `.venv` at a new environment while this process runs; imports
# must not change with it.
if started_as != environment:
    sys.executable, *sys.path = (
        environment + path[len(started_as) :] if path.startswith(started_as + os.sep) else path
        for path in (sys.executable, *sys.path)
    )

for package in PACKAGES:
    path = os.path.join(root, package)
    if path not in sys.path:
        sys.path.append(path)


class TorchvisionFinder:
    """Finds torchvision, whose wheel does not load next to a CPU torch without some help."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        from pte_foundry.upstream.torchvision_operators import repaired_spec

        return repaired_spec(path)


sys.meta_path.insert(0, TorchvisionFinder)

# envs/create.py removes no environment that is locked. This one is until the process ends.
try:
    lock = os.open(os.path.join(environment, "pyvenv.cfg"), os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
except OSError:  # a file system without locks: there, create.py removes nothing either
    pass
