rule edge:
    input:
        program=torch_program,
        code=code_files("edge"),
    output:
        program="results/edge/{model}/{program}/{key}.pt2",
        metadata="results/edge/{model}/{program}/{key}.json",
        benchmark="benchmarks/edge/{model}/{program}/{key}.tsv",
    log:
        "logs/edge/{model}/{program}/{key}.log",
    cache: "omit-software"
    priority: priority("edge")
    group:
        "build"
    resources:
        mem_mb=memory("edge"),
        runtime=runtime("edge"),
    params:
        code=code("edge"),
        slice=edge_slice,
    message:
        "Preparing {wildcards.model}/{wildcards.program} for lowering"
    shell:
        "python -P -m pte_foundry.steps.edge"
        " --slice {params.slice:q} --program {input.program:q}"
        " --output {output.program:q} --metadata {output.metadata:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule lower:
    input:
        program=edge_program,
        metadata=edge_metadata,
        structure="results/export/{model}.json",
        code=code_files("lower"),
    output:
        pte="results/lower/{model}/{recipe}/{key}.pte",
        debug_handles="results/lower/{model}/{recipe}/{key}.json",
        benchmark="benchmarks/lower/{model}/{recipe}/{key}.tsv",
    log:
        "logs/lower/{model}/{recipe}/{key}.log",
    cache: "omit-software"
    group:
        "build"
    resources:
        mem_mb=memory("lower"),
        runtime=runtime("lower"),
    params:
        code=code("lower"),
        slice=lower_slice,
        shapes=enumerated_shapes,
    message:
        "Lowering {wildcards.model}/{wildcards.recipe} for {wildcards.key}"
    shell:
        "python -P -m pte_foundry.steps.lower"
        " --slice {params.slice:q} --shapes {params.shapes:q}"
        " --program {input.program:q} --metadata {input.metadata:q}"
        " --structure {input.structure:q}"
        " --output {output.pte:q} --debug-handles {output.debug_handles:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule pte:
    input:
        lowered=lowered,
        debug_handles=debug_handles,
        code=code_files("pte"),
    output:
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
        benchmark="benchmarks/pte/{model}/{recipe}/{target}.tsv",
    log:
        "logs/pte/{model}/{recipe}/{target}.log",
    group:
        "build"
    resources:
        mem_mb=memory("pte"),
        runtime=runtime("pte"),
    params:
        code=code("pte"),
        slice=slice_of("pte", "target"),
    message:
        "Writing {wildcards.model}/{wildcards.recipe}/{wildcards.target}.pte"
    shell:
        "python -P -m pte_foundry.steps.pte"
        " --slice {params.slice:q}"
        " --lowered {input.lowered:q} --debug-handles {input.debug_handles:q}"
        " --output {output.pte:q} --digest {output.digest:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"
