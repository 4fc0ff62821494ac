# The steps whose code can change an artifact.
FEEDING_BYTES = ["train", "export", "calibrate", "convert", "lower", "pte"]


def matrix():
    """The builds as targets by recipe by model."""
    found = {}
    for build in CONFIG.builds:
        found.setdefault(build.model, {}).setdefault(build.recipe, []).append(build.target)
    return found


def named_files(model):
    """Path of a model's module, weights and data, by role."""
    wildcards = SimpleNamespace(model=model)
    data = sorted(CONFIG.models[model].data)
    return {
        "module": seen_from_here(ROOT / CONFIG.models[model].module),
        "weights": weights_file(wildcards),
        **{f"data.{name}": path for name, path in zip(data, data_files(wildcards), strict=True)},
    }


def fetched_files():
    files = [file for model in MODELS for file in named_files(model).items()]
    return sorted({path for role, path in files if role != "module"})


def plan():
    """All that the artifacts are made from, see scripts/manifest.py."""
    return slice_json(
        {
            "builds": matrix(),
            "code": {step: code(step) for step in FEEDING_BYTES},
            "models": {
                name: {**CONFIG.slice("sources", model=name), "files": named_files(name)}
                for name in MODELS
            },
            "recipes": CONFIG.slice("recipes"),
            "targets": CONFIG.slice("targets"),
        }
    )


rule summary:
    input:
        reports=validations(),
        sources=sources("summary"),
    output:
        "results/summary.json",
    log:
        "logs/summary.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=scaled(500),
        runtime=scaled(10),
    params:
        code=code("summary"),
        slice=slice_json({"builds": matrix(), "devices": DEVICES}),
    message:
        "Summing up all builds"
    shell:
        "python -m scripts.summary"
        " --slice {params.slice:q}"
        " --output {output:q}"
        " --log {log:q}"


rule manifest:
    input:
        artifacts=artifacts(),
        files=fetched_files(),
        lock=seen_from_here(LOCK),
        modules=[seen_from_here(ROOT / CONFIG.models[model].module) for model in MODELS],
        sources=sources("manifest"),
    output:
        "results/manifest.json",
    log:
        "logs/manifest.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=scaled(500),
        runtime=scaled(10),
    params:
        code=code("manifest"),
        slice=plan(),
    message:
        "Writing down what every artifact was made from"
    shell:
        "python -m scripts.manifest"
        " --slice {params.slice:q}"
        " --lock {input.lock:q}"
        " --output {output:q}"
        " --log {log:q}"


rule report:
    input:
        summary="results/summary.json",
        manifest="results/manifest.json",
        sources=sources("report"),
    output:
        report(
            "results/report/index.html",
            caption="../report/page.rst",
            category="Builds",
            labels={"page": "All builds"},
        ),
    log:
        "logs/report.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        code=code("report"),
    message:
        "Drawing the page"
    shell:
        "python -m scripts.report"
        " --summary {input.summary:q}"
        " --manifest {input.manifest:q}"
        " --output {output:q}"
        " --log {log:q}"
