rule validate:
    input:
        unpack(model_files),
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
        reference="results/reference/{model}.safetensors",
        quantized=torch_outputs,
        debug_handles=debug_handles,
        # One that cannot be written is told before its builds are validated.
        tokenizer=lambda wildcards: slices.tokenizer(CONFIG, wildcards.model),
        code=code_files("validate"),
    output:
        report="results/validation/{model}/{recipe}/{target}/{device}.json",
        benchmark="benchmarks/validation/{model}/{recipe}/{target}/{device}.tsv",
    log:
        "logs/validation/{model}/{recipe}/{target}/{device}.log",
    group:
        "build"
    resources:
        mem_mb=memory("validate"),
        runtime=runtime("validate"),
    params:
        code=model_code("validate"),
        slice=slice_of("validate", "model", "recipe", "target", "device"),
    message:
        "Validating {wildcards.model}/{wildcards.recipe}/{wildcards.target} on {wildcards.device}"
    shell:
        "python -P -m pte_foundry.steps.validate"
        " --model {input.model:q} --module {input.module:q}"
        " --slice {params.slice:q} --recipe {wildcards.recipe:q}"
        " --target {wildcards.target:q} --device {wildcards.device:q}"
        " --pte {input.pte:q} --digest {input.digest:q}"
        " --reference {input.reference:q} --quantized {input.quantized:q}"
        " --debug-handles {input.debug_handles:q} --output {output.report:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"


rule diverge:
    input:
        pte="results/pte/{model}/{recipe}/{target}.pte",
        digest="results/pte/{model}/{recipe}/{target}.pte.sha256",
        program="results/export/{model}.pt2",
        reference="results/reference/{model}.safetensors",
        debug_handles=debug_handles,
        code=code_files("diverge"),
    output:
        report="results/divergence/{model}/{recipe}/{target}.json",
        benchmark="benchmarks/divergence/{model}/{recipe}/{target}.tsv",
    log:
        "logs/divergence/{model}/{recipe}/{target}.log",
    group:
        "build"
    resources:
        mem_mb=memory("diverge"),
        runtime=runtime("diverge"),
    params:
        code=code("diverge"),
    message:
        "Comparing the layers of {wildcards.model}/{wildcards.recipe}/{wildcards.target} with fp32"
    shell:
        "python -P -m pte_foundry.steps.diverge"
        " --pte {input.pte:q} --digest {input.digest:q}"
        " --program {input.program:q} --reference {input.reference:q}"
        " --debug-handles {input.debug_handles:q} --output {output.report:q}"
        " --benchmark {output.benchmark:q} --log {log:q}"
