rule validate:
    input:
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
        reference="results/reference/{model}.safetensors",
        quantized=torch_outputs,
        operators=operator_sources,
        module=module_file,
        data=data_files,
        sources=sources("validate"),
    output:
        "results/validation/{model}/{recipe}/{target}/{device}.json",
    log:
        "logs/validation/{model}/{recipe}/{target}/{device}.log",
    threads: 1
    resources:
        mem_mb=memory("validate"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/validation/{model}/{recipe}/{target}/{device}.tsv",
        code=model_code("validate"),
        slice=slice_of("validate", "model", "recipe", "target"),
        data=data_assignments,
        pins=pins,
    message:
        "Validating {wildcards.model}/{wildcards.recipe}/{wildcards.target} on {wildcards.device}"
    shell:
        "python -m scripts.validate"
        " --module {input.module:q}"
        " --data {params.data:q}"
        " --sha256 {params.pins:q}"
        " --slice {params.slice:q}"
        " --model {wildcards.model:q}"
        " --recipe {wildcards.recipe:q}"
        " --target {wildcards.target:q}"
        " --device {wildcards.device:q}"
        " --pte {input.pte:q}"
        " --digest {input.digest:q}"
        " --reference {input.reference:q}"
        " --quantized {input.quantized:q}"
        " --operators {input.operators:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"


rule diverge:
    input:
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
        program="results/export/{model}.pt2",
        reference="results/reference/{model}.safetensors",
        operators=operator_sources,
        sources=sources("diverge"),
    output:
        "results/divergence/{model}/{recipe}/{target}.json",
    log:
        "logs/divergence/{model}/{recipe}/{target}.log",
    threads: 1
    resources:
        mem_mb=memory("diverge"),
        runtime=scaled(60),
    params:
        benchmark="benchmarks/divergence/{model}/{recipe}/{target}.tsv",
        code=code("diverge"),
    message:
        "Comparing the layers of {wildcards.model}/{wildcards.recipe}/{wildcards.target} with fp32"
    shell:
        "python -m scripts.diverge"
        " --pte {input.pte:q}"
        " --digest {input.digest:q}"
        " --program {input.program:q}"
        " --reference {input.reference:q}"
        " --operators {input.operators:q}"
        " --output {output:q}"
        " --benchmark {params.benchmark:q}"
        " --log {log:q}"
