rule calibrate:
    input:
        unpack(model_files),
        program="results/export/{model}.pt2",
        code=code_files("calibrate"),
    output:
        ranges="results/calibrate/{model}/{key}.json",
        benchmark="benchmarks/calibrate/{model}/{key}.tsv",
    log:
        "logs/calibrate/{model}/{key}.log",
    cache: "omit-software"
    priority: priority("calibrate")
    group:
        "model"
    resources:
        mem_mb=memory("calibrate"),
        runtime=runtime("calibrate"),
    params:
        code=model_code("calibrate"),
        slice=calibrate_slice,
    message:
        "Calibrating the activations of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.calibrate"
        " --model {input.model:q} --module {input.module:q} --slice {params.slice:q}"
        " --program {input.program:q} --output {output.ranges:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule convert:
    input:
        unpack(model_files),
        program="results/export/{model}.pt2",
        modules="results/export/{model}.json",
        statistics=calibration,
        code=code_files("convert"),
    output:
        program="results/convert/{model}/{recipe}.pt2",
        benchmark="benchmarks/convert/{model}/{recipe}.tsv",
    log:
        "logs/convert/{model}/{recipe}.log",
    cache: "omit-software"
    priority: priority("convert")
    group:
        "build"
    resources:
        mem_mb=memory("convert"),
        runtime=runtime("convert"),
    params:
        code=scheme_code("convert"),
        slice=slice_of("convert", "model", "recipe"),
    message:
        "Quantizing {wildcards.model} as {wildcards.recipe}"
    shell:
        "python -P -m pte_foundry.steps.convert"
        " --model {input.model:q} --module {input.module:q}"
        " --slice {params.slice:q} --recipe {wildcards.recipe:q}"
        " --program {input.program:q} --modules {input.modules:q}"
        " --statistics {input.statistics:q} --output {output.program:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule evaluate:
    input:
        unpack(model_files),
        program="results/convert/{model}/{recipe}.pt2",
        reference="results/reference/{model}.safetensors",
        code=code_files("evaluate"),
    output:
        outputs="results/evaluate/{model}/{recipe}.safetensors",
        benchmark="benchmarks/evaluate/{model}/{recipe}.tsv",
    log:
        "logs/evaluate/{model}/{recipe}.log",
    group:
        "build"
    resources:
        mem_mb=memory("evaluate"),
        runtime=runtime("evaluate"),
    params:
        code=model_code("evaluate"),
        slice=slice_of("evaluate", "model"),
    message:
        "Running {wildcards.model} as {wildcards.recipe} in PyTorch"
    shell:
        "python -P -m pte_foundry.steps.evaluate"
        " --model {input.model:q} --module {input.module:q} --slice {params.slice:q}"
        " --program {input.program:q} --reference {input.reference:q}"
        " --output {output.outputs:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"
