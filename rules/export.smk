rule export:
    input:
        module=module_file,
        weights=weights_file,
        data=data_files,
        sources=sources("export"),
    output:
        program="results/export/{model}.pt2",
        modules="results/export/{model}.json",
    log:
        "logs/export/{model}.log",
    priority: 4  # see Snakefile
    threads: 1
    resources:
        mem_mb=memory("export"),
        runtime=scaled(30),
    params:
        benchmark="benchmarks/export/{model}.tsv",
        code=model_code("export"),
        slice=slice_of("export", "model"),
        data=data_assignments,
        pins=pins,
        digest=structure_digest,
    message:
        "Exporting {wildcards.model}"
    shell:
        "python -m scripts.export"
        " --module {input.module:q}"
        " --weights {input.weights:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --digest {params.digest}"
        " --program {output.program:q}"
        " --modules {output.modules:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule reference:
    input:
        module=module_file,
        weights=weights_file,
        data=data_files,
        sources=sources("reference"),
    output:
        "results/reference/{model}.safetensors",
    log:
        "logs/reference/{model}.log",
    threads: 1
    resources:
        mem_mb=memory("reference"),
        runtime=scaled(30),
    params:
        benchmark="benchmarks/reference/{model}.tsv",
        code=model_code("reference"),
        slice=slice_of("reference", "model"),
        data=data_assignments,
        pins=pins,
    message:
        "Running the fp32 reference of {wildcards.model}"
    shell:
        "python -m scripts.reference"
        " --module {input.module:q}"
        " --weights {input.weights:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"
