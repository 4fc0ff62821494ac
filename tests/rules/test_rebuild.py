"""Protects minimal rebuilds: after each edit the real Snakemake plans exactly the jobs it must.

Jobs are compared by their messages. Nothing more and nothing less may be planned.
"""

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

CONFIG = "config/config.yaml"
LIBRARY = "scripts/pte_foundry"
M = "digits_cnn"
GATES = {"Checking the gates of all builds"}
PAGE = {"Rendering the HTML report"} | GATES
REPORT_ENDS = {"Aggregating the validation reports"} | PAGE
ENDS = REPORT_ENDS | {"Writing the manifest"}
# After an edit of what is built, or from what.
NEW_ENDS = ENDS | {f"Planning the builds of {M}"}


def lowerings(*names):
    return {f"Lowering {M}/{name}" for name in names}


def artifacts(*names):
    return {f"Writing {M}/{name}.pte" for name in names}


def validations(*names):
    return {f"Validating {M}/{name} on host" for name in names}


def built(*names):
    return artifacts(*names) | validations(*names)


def edges(*programs):
    return {f"Preparing {M}/{name} for lowering" for name in programs}


def conversion(*recipes):
    converted = {f"Quantizing {M} as {r}" for r in recipes}
    return converted | edges(*recipes) | {f"Running {M} as {r} in PyTorch" for r in recipes}


ALL = (
    "fp16/ios16",
    "int8_per_axis/ios16",
    "int8_static/ios17",
    "int8_static/ios17_ne",
    "int8_tensor/ios17",
)
QUANTIZED = ("int8_static", "int8_tensor", "int8_per_axis")
CALIBRATION = {f"Calibrating the activations of {M}"}
REFERENCE = {f"Running the fp32 reference of {M}"}


def planned(project, **environment):
    """The planned jobs, without the digest in the name of a lowering."""
    found = set()
    for job in project.jobs(**environment):
        head, separator, _ = job.partition(" for ")
        found.add(head if separator and head.startswith("Lowering") else job)
    return found


def everything_below_export():
    lowered = edges("_float") | lowerings("fp16", *QUANTIZED)
    return CALIBRATION | conversion(*QUANTIZED) | lowered | built(*ALL) | ENDS


def test_nothing_is_planned_after_a_build(project):
    assert project.jobs() == set()


def test_weight_settings_of_a_recipe_do_not_recalibrate(project):
    project.replace(CONFIG, "weight_per_channel: false", "weight_per_channel: true")
    assert planned(project) == (
        conversion("int8_tensor") | lowerings("int8_tensor") | built("int8_tensor/ios17") | NEW_ENDS
    )


def test_activation_settings_of_a_recipe_recalibrate_for_it_alone(project):
    project.replace(
        CONFIG,
        "weight_per_channel: false",
        "weight_per_channel: false, activation_observer: min_max",
    )
    assert planned(project) == CALIBRATION | (
        conversion("int8_tensor") | lowerings("int8_tensor") | built("int8_tensor/ios17") | NEW_ENDS
    )


def test_divergence_reports_are_made_for_the_page_alone(project):
    project.write(CONFIG, project.read(CONFIG) + "divergence: true\n")
    compared = {f"Comparing the layers of {M}/{name} with fp32" for name in ALL}
    assert planned(project) == compared | PAGE


def test_a_quantize_recipe_rebuilds_itself(project):
    project.replace(
        CONFIG,
        "weight_dtype: int8, granularity",
        "weight_dtype: int8, mapping_type: asymmetric, granularity",
    )
    assert planned(project) == (
        conversion("int8_per_axis")
        | lowerings("int8_per_axis")
        | built("int8_per_axis/ios16")
        | NEW_ENDS
    )


def test_the_os_of_a_target_lowers_for_that_target_alone(project):
    project.replace(CONFIG, "ios17: {minimum_os: iOS17", "ios17: {minimum_os: iOS18")
    names = ("int8_static/ios17", "int8_tensor/ios17")
    assert planned(project) == lowerings("int8_static", "int8_tensor") | built(*names) | NEW_ENDS


def test_compute_units_convert_nothing(project):
    project.replace(CONFIG, "compute_units: cpu_and_ne", "compute_units: cpu_only")
    assert planned(project) == built("int8_static/ios17_ne") | NEW_ENDS


def test_a_gate_only_validates(project):
    project.replace(CONFIG, "sqnr_db: {min: 10}", "sqnr_db: {min: 11}")
    assert planned(project) == validations(*ALL) | REPORT_ENDS


def test_a_new_target_adds_its_own_jobs(project):
    project.replace(
        CONFIG,
        "recipes: [int8_tensor], targets: [ios17]",
        "recipes: [int8_tensor], targets: [ios17, new]",
    )
    project.replace(CONFIG, "gates:\n", "  new: {minimum_os: iOS18}\ngates:\n")
    assert planned(project) == lowerings("int8_tensor") | built("int8_tensor/new") | NEW_ENDS


def test_a_target_that_skips_operators_shares_no_edge_program(project):
    project.replace(
        CONFIG,
        "ios17: {minimum_os: iOS17",
        "ios17: {minimum_os: iOS17, "
        "partitioner: {skip_ops_for_coreml_delegation: [aten.linear.default]}",
    )
    recipes, names = ("int8_static", "int8_tensor"), ("int8_static/ios17", "int8_tensor/ios17")
    assert planned(project) == edges(*recipes) | lowerings(*recipes) | built(*names) | NEW_ENDS


def test_a_new_recipe_adds_its_own_jobs(project):
    project.replace(CONFIG, "recipes: [fp16, int8_per_axis]", "recipes: [fp16, int8_per_axis, new]")
    project.replace(
        CONFIG,
        "targets:\n  ios16:",
        "  new: {scheme: quantize, steps: [{affine: {weight_dtype: int8, granularity: {axis: 0}, "
        "mapping_type: asymmetric}}]}\ntargets:\n  ios16:",
    )
    assert planned(project) == conversion("new") | lowerings("new") | built("new/ios16") | NEW_ENDS


def test_a_new_model_adds_its_own_jobs(project):
    project.replace(
        CONFIG,
        "recipes:\n  fp16:",
        (
            "  other:\n    module: config/models/digits_cnn.py\n"
            "    weights: {train: true}\n    data:\n      digits:\n        package: scikit-learn\n"
            "        file: sklearn/datasets/data/digits.csv.gz\n"
            "        sha256: 09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22\n"
            "recipes:\n  fp16:"
        ),
    )
    project.replace(
        CONFIG, "builds:\n", "builds:\n  - {models: [other], recipes: [fp16], targets: [ios16]}\n"
    )
    assert (
        planned(project)
        == {
            "Describing other",
            "Planning the builds of other",
            "Fetching digits of other",
            "Making the weights of other",
            "Exporting other",
            "Running the fp32 reference of other",
            "Preparing other/_float for lowering",
            "Lowering other/fp16",
            "Writing other/fp16/ios16.pte",
            "Validating other/fp16/ios16 on host",
        }
        | ENDS
    )


def test_comments_order_of_keys_and_layout_do_not_count(project):
    project.replace(CONFIG, "# the data", "# handwritten digits")
    project.replace(
        CONFIG,
        "{weight_per_channel: true, weight_dtype: qint8}",
        "{weight_dtype: qint8,   weight_per_channel: true}",
    )
    text = project.read(f"{LIBRARY}/steps/lower.py")
    project.write(f"{LIBRARY}/steps/lower.py", f"# A comment.\n{text}\n# Another.\n")
    project.write("rules/lower.smk", project.read("rules/lower.smk") + "\n# A comment.\n")
    assert project.jobs() == set()


def test_touching_every_file_does_not_count(project):
    for path in sorted(project.folder.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)
    assert project.jobs() == set()


def test_switching_a_branch_there_and_back_does_not_count(project):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            cwd=project.folder,
            check=True,
            capture_output=True,
        )

    git("init", "-b", "main")
    git("add", "Snakefile", "rules", "scripts", "config", "envs", "profiles", "report")
    git("commit", "-m", "one")
    git("switch", "-c", "other")
    project.replace(f"{LIBRARY}/lowering/coreml.py", "Exception as error", "RuntimeError as error")
    project.replace(CONFIG, "weight_per_channel: false", "weight_per_channel: true")
    git("commit", "-am", "two")
    assert project.jobs() != set()
    git("switch", "main")
    assert project.jobs() == set()


def test_swapping_the_values_of_two_options_counts(project):
    """Snakemake compares the set of a rule's parameters, which a swap leaves as it is."""
    text = project.read(CONFIG)
    text = text.replace("weight_per_channel: true", "SWAP").replace(
        "weight_per_channel: false", "weight_per_channel: true"
    )
    project.write(CONFIG, text.replace("SWAP", "weight_per_channel: false"))
    recipes = ("int8_static", "int8_tensor")
    names = ("int8_static/ios17", "int8_static/ios17_ne", "int8_tensor/ios17")
    assert planned(project) == conversion(*recipes) | lowerings(*recipes) | built(*names) | NEW_ENDS


def edited(project, *files):
    """The jobs that are planned after a line of code was added to these files of the library."""
    for file in files:
        project.write(f"{LIBRARY}/{file}", project.read(f"{LIBRARY}/{file}") + "\nNEW = 1\n")
    return planned(project)


@pytest.mark.parametrize(
    ("file", "recipes"),
    [
        ("quantize/weight_only.py", ["int8_per_axis"]),
        ("quantize/schemes/quantize.py", ["int8_per_axis"]),
        ("quantize/schemes/pt2e.py", ["int8_static", "int8_tensor"]),
        ("quantize/annotate.py", ["int8_static", "int8_tensor"]),
    ],
)
def test_the_code_of_a_scheme_converts_the_recipes_of_that_scheme(project, file, recipes):
    calibrates = CALIBRATION if file == "quantize/annotate.py" else set()
    names = [name for name in ALL if name.split("/")[0] in recipes]
    assert edited(project, file) == calibrates | (
        conversion(*recipes) | lowerings(*recipes) | built(*names) | ENDS
    )


@pytest.mark.parametrize("file", ["mil/ops/random.py", "mil/run.py", "pte/kernels.py"])
def test_the_interpreter_only_validates(project, file):
    assert edited(project, file) == validations(*ALL) | REPORT_ENDS


@pytest.mark.parametrize("file", ["validate/metrics.py", "validate/gates.py"])
def test_a_metric_or_the_judgement_of_gates_only_validates(project, file):
    assert edited(project, file) == validations(*ALL) | REPORT_ENDS


def test_the_page_is_rendered_again_for_its_template_and_code(project):
    template = f"{LIBRARY}/report/page_assets/page.html.j2"
    project.write(template, project.read(template) + "<!-- new -->")
    assert planned(project) == PAGE
    assert edited(project, "report/charts.py") == PAGE


def test_classes_of_the_configuration_rebuild_nothing_by_themselves(project):
    """Their meaning reaches the steps as slices of the config, which did not change here."""
    folder = project.folder / LIBRARY / "config"
    files = [f"config/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.py"))]
    assert len(files) > 10
    assert edited(project, *files) == set()


def test_lowering_has_neither_the_interpreter_nor_the_configuration_in_its_code(project):
    assert edited(project, "lowering/coreml.py") == (
        lowerings("fp16", *QUANTIZED) | built(*ALL) | ENDS
    )


def test_a_source_edited_with_an_old_date_counts(project):
    path = project.folder / f"{LIBRARY}/steps/manifest.py"
    before = path.stat()
    path.write_text(path.read_text() + "\nNEW = 1\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert planned(project) == {"Writing the manifest"} | PAGE


def test_a_source_that_no_step_imports_does_not_count(project):
    project.write(f"{LIBRARY}/nobody.py", "X = 1\n")
    project.write(f"{LIBRARY}/progress/snakemake_logger_plugin_foundry/more.py", "X = 1\n")
    project.write(
        f"{LIBRARY}/report/table.py",
        project.read(f"{LIBRARY}/report/table.py") + "\nNEW = 1\n",
    )
    assert project.jobs() == set()


def test_a_locked_version_reruns_everything(project):
    text = project.read("envs/requirements.lock")
    changed = re.sub(r"^idna==[\d.]+", "idna==0.1", text, flags=re.MULTILINE)
    assert changed != text
    project.write("envs/requirements.lock", changed)
    done = project.snakemake("--dry-run")
    assert done.returncode == 1
    assert "(locked: 0.1). Run `make`" in done.stderr
    assert planned(project, FOUNDRY_LOCK="off") == everything_below_export() | REFERENCE | {
        f"Describing {M}",
        f"Planning the builds of {M}",
        f"Fetching digits of {M}",
        f"Making the weights of {M}",
        f"Exporting {M}",
    }


def test_a_file_that_the_model_imports_is_code_of_the_model(project):
    helper = "config/models/brightness.py"
    project.write(helper, "# As scikit-learn has them.\nLARGEST = 16\n")
    assert planned(project) == {"Writing the manifest"} | PAGE  # it has the files' own digests
    project.write(helper, "LARGEST = 15\n")
    done = project.snakemake("--dry-run")
    assert "code: brightness.py" in done.stdout
    assert planned(project) == everything_below_export() | REFERENCE | {
        f"Describing {M}",
        f"Making the weights of {M}",
        f"Exporting {M}",
    }


def test_deleting_an_artifact_rebuilds_it_alone(project):
    (project.folder / f"results/pte/{M}/int8_static/ios17.pte").unlink()
    assert planned(project) == built("int8_static/ios17") | ENDS


def test_deleting_an_intermediate_does_not_count(project):
    (project.folder / f"results/convert/{M}/int8_static.pt2").unlink()
    assert project.jobs() == set()


def test_plans_and_descriptions_of_models_are_ordinary_files(project):
    """Deleted, they count as other intermediates do, and come back when something needs them."""
    files = [project.folder / f"results/{folder}/{M}.json" for folder in ("plan", "model")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert project.jobs() == set()
    (project.folder / "results/manifest.json").unlink()
    project.build()
    assert [file.read_bytes() for file in files] == before


def test_a_build_less_is_summed_up_without_building(project):
    project.replace(CONFIG, "recipes: [fp16, int8_per_axis]", "recipes: [fp16]")
    assert planned(project) == NEW_ENDS
    project.build()
    assert "int8_per_axis" not in project.read("results/summary.json")


def test_it_is_known_when_the_structure_of_a_model_is_known(project):
    """`make` asks, because finding out nothing new with Snakemake takes half of its time."""

    def asked():
        return subprocess.run(
            [sys.executable, "-m", "pte_foundry.cli", "check", "--structure", CONFIG],
            cwd=project.folder,
            env=os.environ | {"PYTHONPATH": str(project.folder / "scripts")},
            capture_output=True,
            text=True,
            check=False,
        )

    known, missing, wrong = 0, 3, 1
    assert asked().returncode == known, asked().stderr
    text = project.read(f"config/models/{M}.py")
    project.write(f"config/models/{M}.py", text.replace("Linear(64, 16)", "Linear(64, 32)"))
    assert asked().returncode == missing
    project.write(f"config/models/{M}.py", text)
    project.replace(CONFIG, "granularity: {axis: 0}", "granularity: {group_size: 48}")
    project.replace(CONFIG, "ios16: {minimum_os: iOS16", "ios16: {minimum_os: iOS18")
    assert asked().returncode == wrong
    done = asked()
    assert "48 does not divide" in done.stdout + done.stderr


def test_a_changed_data_file_rebuilds_everything_below_it(project):
    digest = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
    project.replace(CONFIG, digest, "a" * 64)
    assert planned(project) == everything_below_export() | REFERENCE | {
        f"Describing {M}",
        f"Planning the builds of {M}",
        f"Fetching digits of {M}",
        f"Making the weights of {M}",
        f"Exporting {M}",
    }


def test_changed_weights_rebuild_everything_below_them(project):
    weights = project.folder / f"results/train/{M}.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert planned(project) == everything_below_export() | REFERENCE | {f"Exporting {M}"}
