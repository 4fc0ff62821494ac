rule model:
    input:
        module=module_file,
        code=code_files("model"),
    output:
        "results/model/{model}.json",
    log:
        "logs/model/{model}.log",
    localrule: True
    resources:
        mem_mb=memory("model"),
        runtime=runtime("model"),
    params:
        code=code("model"),
        slice=slice_of("model", "model"),
        paths=paths_of,
        imports=digest_of_imports,
    message:
        "Describing {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.model"
        " --module {input.module:q} --imports {params.imports}"
        " --slice {params.slice:q} --paths {params.paths:q}"
        " --output {output:q}"
        " --log {log:q}"


rule fetch:
    input:
        source=local_source,
        code=code_files("fetch"),
    output:
        "results/fetch/{model}/{name}/{file}",
    log:
        "logs/fetch/{model}/{name}/{file}.log",
    cache: "omit-software"
    localrule: True  # where there is a network, also on a cluster
    resources:
        mem_mb=memory("fetch"),
        runtime=runtime("fetch"),
    params:
        code=code("fetch"),
        slice=slice_of("fetch", "model", "name"),
        root=source_folder,
    message:
        "Fetching {wildcards.name} of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.fetch"
        " --slice {params.slice:q} --root {params.root:q}"
        " --output {output:q}"
        " --log {log:q}"


rule train:
    input:
        unpack(untrained_model),
        code=code_files("train"),
    output:
        weights="results/train/{model}.safetensors",
        benchmark="benchmarks/train/{model}.tsv",
    log:
        "logs/train/{model}.log",
    cache: "omit-software"
    priority: priority("train")
    resources:
        mem_mb=memory("train"),
        runtime=runtime("train"),
    params:
        code=model_code("train"),
        slice=slice_of("train", "model"),
    message:
        "Making the weights of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.train"
        " --model {input.model:q} --module {input.module:q} --slice {params.slice:q}"
        " --output {output.weights:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"
