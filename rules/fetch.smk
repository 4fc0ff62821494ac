def local_source(wildcards):
    """A source on this disk is an input like any other; one in a package or on the web is not."""
    model = CONFIG.models[wildcards.model]
    source = model.weights if wildcards.name == "weights" else model.data[wildcards.name]
    return [seen_from_here(ROOT / source.file)] if source.kind == "file" else []


rule fetch:
    input:
        source=local_source,
        sources=sources("fetch"),
    output:
        "results/fetch/{model}/{name}/{file}",
    log:
        "logs/fetch/{model}/{name}/{file}.log",
    retries: 2
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=scaled(500),
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
    benchmark:
        "benchmarks/train/{model}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        code=model_code("train"),
        slice=slice_of("train", "model"),
        data=data_assignments,
    message:
        "Training {wildcards.model}"
    shell:
        "python -m scripts.train"
        " --module {input.module:q}"
        " --data {params.data:q}"
        " --slice {params.slice:q}"
        " --output {output:q}"
        " --log {log:q}"
