# From a configuration to verified, byte-reproducible Core ML programs for ExecuTorch.
#
#   results/pte/{model}/{recipe}/{target}.pte                     the artifacts
#   results/validation/{model}/{recipe}/{target}/{device}.json    a report on each, by executing it
#   results/summary.json, results/report/index.html               all builds, for programs and people
#   results/manifest.json                                         what every artifact was made from
#
# The configuration is explained in config/README.md.
from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "report/workflow.rst"


container: "docker-daemon://pte-foundry:0.1.0"  # envs/Dockerfile; used with --sdm apptainer only


onstart:
    if workflow.is_main_process:
        write_plans()
    # Snakemake 9.27.1 limits how many jobs start in a second. For that it looks through all waiting
    # jobs again every second, once for each job that has ended so far, which takes a core after some
    # hundred jobs. On one machine its cores are limit enough. (tests/rules/test_scheduling.py)
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
        if not (workflow.remote_exec or workflow.deployment_settings.deployment_method):
            models = (ROOT / model.module for model in CONFIG.models.values())
            warm.start(models, Path("logs/warm"))


# Stages have priorities, the first the highest: left to itself, Snakemake may begin the longest way
# to an artifact last, and then all cores but one wait for it.
include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/fetch.smk"
include: "rules/export.smk"
include: "rules/convert.smk"
include: "rules/lower.smk"
include: "rules/validate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report/index.html",
        "<results>/summary.json",
        "<results>/manifest.json",
        artifacts(),


rule structure:
    # What the checks of recipes against models need. `make` builds it first, so that a recipe that
    # does not fit its model is refused together with all other errors before anything is converted.
    input:
        collect("<results>/export/{model}.json", model=MODELS),
