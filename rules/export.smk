rule export:
    input:
        unpack(model_files),
        code=code_files("export"),
    output:
        program="results/export/{model}.pt2",
        modules="results/export/{model}.json",
        benchmark="benchmarks/export/{model}.tsv",
    log:
        "logs/export/{model}.log",
    cache: "omit-software"
    priority: priority("export")
    group:
        "model"
    resources:
        mem_mb=memory("export"),
        runtime=runtime("export"),
    params:
        code=model_code("export"),
        slice=slice_of("export", "model"),
        digest=structure_digest,
    message:
        "Exporting {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.export"
        " --model {input.model:q} --module {input.module:q} --slice {params.slice:q}"
        " --digest {params.digest}"
        " --program {output.program:q} --modules {output.modules:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule tokenizer:
    input:
        weights=lambda wildcards: weights_of(wildcards.model),
        code=code_files("tokenizer"),
    output:
        files=[
            "results/pte/{model}/tokenizer/tokenizer.json",
            "results/pte/{model}/tokenizer/tokenizer_config.json",
            "results/pte/{model}/tokenizer/generation_config.json",
        ],
        digests=[
            "results/pte/{model}/tokenizer/tokenizer.json.sha256",
            "results/pte/{model}/tokenizer/tokenizer_config.json.sha256",
            "results/pte/{model}/tokenizer/generation_config.json.sha256",
        ],
    log:
        "logs/tokenizer/{model}.log",
    group:
        "model"
    resources:
        mem_mb=memory("tokenizer"),
        runtime=runtime("tokenizer"),
    params:
        code=code("tokenizer"),
    message:
        "Writing the tokenizer of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.tokenizer"
        " --weights {input.weights:q} --output {output.files:q} --digests {output.digests:q}"
        " --log {log:q}"


rule reference:
    input:
        unpack(model_files),
        exported="results/export/{model}.json",  # a model that cannot be exported is told once
        code=code_files("reference"),
    output:
        samples="results/reference/{model}.safetensors",
        benchmark="benchmarks/reference/{model}.tsv",
    log:
        "logs/reference/{model}.log",
    group:
        "model"
    resources:
        mem_mb=memory("reference"),
        runtime=runtime("reference"),
    params:
        code=model_code("reference"),
        slice=slice_of("reference", "model"),
    message:
        "Running the fp32 reference of {wildcards.model}"
    shell:
        "python -P -m pte_foundry.steps.reference"
        " --model {input.model:q} --module {input.module:q} --slice {params.slice:q}"
        " --output {output.samples:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"
