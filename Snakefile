# From a configuration to verified, byte-reproducible Core ML programs for ExecuTorch.
#
#   results/pte/{model}/{recipe}/{target}.pte                     the artifacts
#   results/validation/{model}/{recipe}/{target}/{device}.json    their validation reports
#   results/summary.json, results/report/index.html               all builds, for programs and people
#   results/manifest.json                                         what every artifact was made from
#   results/gates.json                                            exists if no build fails
#
# The configuration is explained in config/README.md. It is read in rules/common.smk, because one that
# is named with --configfile need not be merged into config/config.yaml.
from snakemake.utils import min_version

min_version("9.27")


report: "report/workflow.rst"


container: "docker-daemon://pte-foundry:0.2.0"  # envs/Dockerfile; used with --sdm apptainer only


onstart:
    start_build(workflow)


onerror:
    tell_failures(workflow)


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/resources.smk"
include: "rules/fetch.smk"
include: "rules/export.smk"
include: "rules/convert.smk"
include: "rules/lower.smk"
include: "rules/validate.smk"
include: "rules/report.smk"
include: "rules/run.smk"


rule all:
    default_target: True
    input:
        "results/report/index.html",
        "results/summary.json",
        "results/manifest.json",
        "results/gates.json",
        artifacts(),


rule structure:
    # What the checks of recipes against models need. `make` runs until there first, so that a recipe
    # that does not fit its model is refused together with all other errors before anything is
    # converted: with `--until export`, which plans all of the build and so can show one progress.
    input:
        collect("results/export/{model}.json", model=MODELS),
