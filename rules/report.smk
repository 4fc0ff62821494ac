rule plan:
    input:
        code=code_files("plan"),
    output:
        "results/plan/{model}.json",
    log:
        "logs/plan/{model}.log",
    localrule: True
    resources:
        mem_mb=memory("plan"),
        runtime=runtime("plan"),
    params:
        code=code("plan"),
        slice=slice_of("plan", "model"),
    message:
        "Planning the builds of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.plan"
        " --slice {params.slice:q} --output {output:q}"
        " --log {log:q}"


rule summary:
    input:
        reports=validations(),
        plans=collect("results/plan/{model}.json", model=MODELS),
        code=code_files("summary"),
    output:
        "results/summary.json",
    log:
        "logs/summary.log",
    group:
        "report"
    resources:
        mem_mb=memory("summary"),
        runtime=runtime("summary"),
    params:
        code=code("summary"),
        slice=JOBS.slice("summary"),
    message:
        "Aggregating the validation reports"
    shell:
        "python -P -m pte_foundry.steps.summary"
        " --slice {params.slice:q} --plans {input.plans:q}"
        " --output {output:q}"
        " --log {log:q}"


rule manifest:
    input:
        artifacts=artifacts(),
        digests=[f"{artifact}.sha256" for artifact in artifacts()],
        tokenizers=tokenizers(),
        plans=collect("results/plan/{model}.json", model=MODELS),
        models=collect("results/model/{model}.json", model=MODELS),
        sources=sources_of_models(),
        modules=imported_files(),
        lock=source_file(LOCK),
        code=code_files("manifest"),
    output:
        "results/manifest.json",
    log:
        "logs/manifest.log",
    group:
        "report"
    resources:
        mem_mb=memory("manifest"),
        runtime=runtime("manifest"),
    params:
        code=code("manifest"),
        slice=manifest_slice,
        roots=[relative(CONFIG.project(model)) for model in MODELS],
    message:
        "Writing the manifest"
    shell:
        "python -P -m pte_foundry.steps.manifest"
        " --slice {params.slice:q} --plans {input.plans:q}"
        " --models {input.models:q} --roots {params.roots:q} --lock {input.lock:q}"
        " --output {output:q}"
        " --log {log:q}"


rule report:
    input:
        summary="results/summary.json",
        manifest="results/manifest.json",
        divergences=divergences(),
        code=code_files("report"),
    output:
        report(
            "results/report/index.html",
            caption="../report/page.rst",
            category="Builds",
            labels={"page": "All builds"},
        ),
    log:
        "logs/report.log",
    group:
        "report"
    resources:
        mem_mb=memory("report"),
        runtime=runtime("report"),
    params:
        code=code("report"),
        slice=JOBS.slice("report"),
    message:
        "Rendering the HTML report"
    shell:
        "python -P -m pte_foundry.steps.report"
        " --slice {params.slice:q}"
        " --summary {input.summary:q} --manifest {input.manifest:q}"
        " --output {output:q}"
        " --log {log:q}"


rule gates:
    # Its output exists only if all builds pass, so it fails again as long as one does not.
    input:
        summary="results/summary.json",
        others=["results/report/index.html", "results/manifest.json"],
        code=code_files("gates"),
    output:
        "results/gates.json",
    log:
        "logs/gates.log",
    localrule: True
    resources:
        mem_mb=memory("gates"),
        runtime=runtime("gates"),
    params:
        code=code("gates"),
    message:
        "Checking the gates of all builds"
    shell:
        "python -P -m pte_foundry.steps.gates"
        " --summary {input.summary:q} --output {output:q}"
        " --log {log:q}"
