"""Jobs without the seconds that torch, torchao, executorch and coremltools take to load.

Most of what a small job costs is the import of these libraries. While Snakemake works on one
machine, two processes have them loaded, one for each environment that steps run in (:data:`KINDS`).
A step that is started (``python -m scripts.<step>``, a few hundredths of a second) hands its
arguments, folder, environment and open files over to the right one, which forks: the child has the
libraries, runs the step, and ends with it. Nothing that a job does reaches another one, and the
process that was started stands for its child: it ends with the child's exit code, and if it is
killed, so is the child.

Nothing depends on it. Where no such process is (on clusters, in containers, on macOS, where forking
is not safe), or where a step was started in another environment than the first of its kind, it does
the same work in a process of its own. ``FOUNDRY_WARM=off`` makes all steps do so.
"""

# The folder with one socket for each kind, or "off".
VARIABLE = "FOUNDRY_WARM"

# Whether the environment is that of pte_foundry.job.deterministic_env, which is decided when a process starts.
PORTABLE, NATIVE = "portable", "native"
KINDS = (PORTABLE, NATIVE)
