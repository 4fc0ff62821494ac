rule edge:
    input:
        program=torch_program,
        sources=sources("edge"),
    output:
        program="results/edge/{model}/{program}/{key}.pt2",
        about="results/edge/{model}/{program}/{key}.json",
    log:
        "logs/edge/{model}/{program}/{key}.log",
    priority: 1  # see Snakefile
    threads: 1
    resources:
        mem_mb=memory("edge"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/edge/{model}/{program}/{key}.tsv",
        code=code("edge"),
        slice=edge_slice,
    message:
        "Preparing {wildcards.model}/{wildcards.program} for lowering"
    shell:
        "python -m scripts.edge"
        " --slice {params.slice:q}"
        " --program {input.program:q}"
        " --output {output.program:q}"
        " --about {output.about:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule lower:
    input:
        program=edge_program,
        about=edge_about,
        sources=sources("lower"),
    output:
        pte="results/lower/{model}/{recipe}/{key}.pte",
        operators="results/lower/{model}/{recipe}/{key}.json",
    log:
        "logs/lower/{model}/{recipe}/{key}.log",
    threads: 1
    resources:
        mem_mb=memory("lower"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/lower/{model}/{recipe}/{key}.tsv",
        code=code("lower"),
        slice=lower_slice,
    message:
        "Lowering {wildcards.model}/{wildcards.recipe} for {wildcards.key}"
    shell:
        "python -m scripts.lower"
        " --slice {params.slice:q}"
        " --program {input.program:q}"
        " --about {input.about:q}"
        " --output {output.pte:q}"
        " --sources {output.operators:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule pte:
    input:
        lowered=lowered,
        operators=operator_sources,
        sources=sources("pte"),
    output:
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
    log:
        "logs/pte/{model}/{recipe}/{target}.log",
    threads: 1
    resources:
        mem_mb=memory("pte"),
        runtime=scaled(10),
    params:
        code=code("pte"),
        slice=slice_of("pte", "target"),
    message:
        "Writing {wildcards.model}/{wildcards.recipe}/{wildcards.target}.pte"
    shell:
        "python -m scripts.pte"
        " --slice {params.slice:q}"
        " --lowered {input.lowered:q}"
        " --sources {input.operators:q}"
        " --output {output.pte:q}"
        " --digest {output.digest:q}"
        " --log {log:q}"
