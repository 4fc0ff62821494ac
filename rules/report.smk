rule summary:
    input:
        reports=validations(),
        sources=sources("summary"),
    output:
        "results/summary.json",
    log:
        "logs/summary.log",
    threads: 1
    resources:
        mem_mb=memory("summary"),
        runtime=scaled(10),
    params:
        code=code("summary"),
        slice=plans.digest(PLANS["summary"]),
        plan=plan_file("summary"),
    message:
        "Summing up all builds"
    shell:
        "python -m scripts.summary"
        " --plan {params.plan:q}"
        " --digest {params.slice}"
        " --output {output:q}"
        " --log {log:q}"


rule manifest:
    input:
        artifacts=artifacts(),
        digests=[f"{artifact}.sha256" for artifact in artifacts()],
        files=fetched_files(),
        lock=seen_from_here(LOCK),
        modules=[seen_from_here(ROOT / CONFIG.models[model].module) for model in MODELS],
        sources=sources("manifest"),
    output:
        "results/manifest.json",
    log:
        "logs/manifest.log",
    threads: 1
    resources:
        mem_mb=memory("manifest"),
        runtime=scaled(10),
    params:
        code=code("manifest"),
        slice=plans.digest(PLANS["manifest"]),
        plan=plan_file("manifest"),
    message:
        "Writing down what every artifact was made from"
    shell:
        "python -m scripts.manifest"
        " --plan {params.plan:q}"
        " --digest {params.slice}"
        " --lock {input.lock:q}"
        " --output {output:q}"
        " --log {log:q}"


rule report:
    input:
        summary="results/summary.json",
        manifest="results/manifest.json",
        divergences=divergences(),
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
    threads: 1
    resources:
        mem_mb=memory("report"),
        runtime=scaled(10),
    params:
        code=code("report"),
        slice=slice_json({"divergence": CONFIG.divergence}),
    message:
        "Drawing the page"
    shell:
        "python -m scripts.report"
        " --slice {params.slice:q}"
        " --summary {input.summary:q}"
        " --manifest {input.manifest:q}"
        " --output {output:q}"
        " --log {log:q}"
