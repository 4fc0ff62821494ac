rule calibrate:
    input:
        module=module_file,
        weights=weights_file,
        data=data_files,
        program="results/export/{model}.pt2",
        sources=sources("calibrate"),
    output:
        "results/calibrate/{model}/{key}.json",
    log:
        "logs/calibrate/{model}/{key}.log",
    priority: 3  # see Snakefile
    threads: 1
    resources:
        mem_mb=memory("calibrate"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/calibrate/{model}/{key}.tsv",
        code=model_code("calibrate"),
        slice=calibrate_slice,
        data=data_assignments,
        pins=pins,
    message:
        "Calibrating the activations of {wildcards.model}"
    shell:
        "python -m scripts.calibrate"
        " --module {input.module:q}"
        " --weights {input.weights:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --program {input.program:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule convert:
    input:
        module=module_file,
        weights=weights_file,
        data=data_files,
        program="results/export/{model}.pt2",
        modules="results/export/{model}.json",
        statistics=calibration,
        sources=sources("convert"),
    output:
        "results/convert/{model}/{recipe}.pt2",
    log:
        "logs/convert/{model}/{recipe}.log",
    priority: 2  # see Snakefile
    threads: 1
    resources:
        mem_mb=memory("convert"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/convert/{model}/{recipe}.tsv",
        code=model_code("convert"),
        slice=slice_of("convert", "model", "recipe"),
        data=data_assignments,
        pins=pins,
        statistics=statistics_option,
    message:
        "Quantizing {wildcards.model} as {wildcards.recipe}"
    shell:
        "python -m scripts.convert"
        " --module {input.module:q}"
        " --weights {input.weights:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --model {wildcards.model:q}"
        " --recipe {wildcards.recipe:q}"
        " --program {input.program:q}"
        " --modules {input.modules:q}"
        " {params.statistics:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule evaluate:
    input:
        program="results/convert/{model}/{recipe}.pt2",
        reference="results/reference/{model}.safetensors",
        sources=sources("evaluate"),
    output:
        "results/evaluate/{model}/{recipe}.safetensors",
    log:
        "logs/evaluate/{model}/{recipe}.log",
    threads: 1
    resources:
        mem_mb=memory("evaluate"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/evaluate/{model}/{recipe}.tsv",
        code=code("evaluate"),
    message:
        "Running {wildcards.model} as {wildcards.recipe} in PyTorch"
    shell:
        "python -m scripts.evaluate"
        " --program {input.program:q}"
        " --reference {input.reference:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"
