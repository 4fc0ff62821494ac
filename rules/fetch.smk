rule fetch:
    input:
        source=local_source,
        sources=sources("fetch"),
    output:
        "results/fetch/{model}/{name}/{file}",
    log:
        "logs/fetch/{model}/{name}/{file}.log",
    localrule: True  # where there is a network, also on a cluster
    threads: 1
    resources:
        mem_mb=memory("fetch"),
        runtime=scaled(30),
    params:
        code=code("fetch"),
        slice=slice_of("fetch", "model", "name"),
        root=seen_from_here(ROOT),
    message:
        "Fetching {wildcards.name} of {wildcards.model}"
    shell:
        "python -m scripts.fetch"
        " --slice {params.slice:q}"
        " --root {params.root:q}"
        " --output {output:q}"
        " --log {log:q}"


rule train:
    input:
        module=module_file,
        data=data_files,
        sources=sources("train"),
    output:
        "results/train/{model}.safetensors",
    log:
        "logs/train/{model}.log",
    priority: 4  # see Snakefile
    threads: 1
    resources:
        mem_mb=memory("train"),
        runtime=scaled(30),
    params:
        benchmark="benchmarks/train/{model}.tsv",
        code=model_code("train"),
        slice=slice_of("train", "model"),
        data=data_assignments,
        pins=pins,
    message:
        "Training {wildcards.model}"
    shell:
        "python -m scripts.train"
        " --module {input.module:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"
