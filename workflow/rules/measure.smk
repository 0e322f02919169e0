# Sharpness and compression of every checkpoint.


rule measure_epfl:
    input:
        data=rules.train_epfl.input.data,
        checkpoints=rules.train_epfl.output.checkpoints,
    output:
        f"{RESULTS}/measurements/epfl/{{pool}}/{{trained}}/{{measured}}/{{block}}.csv",
    log:
        f"{LOGS}/measure/epfl/{{pool}}/{{trained}}/{{measured}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/epfl/{{pool}}/{{trained}}/{{measured}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="4h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(epfl_measurement(wildcards)),
        code=code_version("flatness.studies.epfl.measure"),
        scratch=lambda wildcards: scratch(
            "measure-epfl",
            epfl_measurement(wildcards),
            code_version("flatness.studies.epfl.measure"),
            wildcards.block,
        ),
    message:
        "Measure {wildcards.pool} ({wildcards.trained}, {wildcards.measured}), seeds {wildcards.block}"
    shell:
        "python -m flatness measure-epfl --experiment {params.experiment:q} --data {input.data:q}"
        " --checkpoints {input.checkpoints:q} --scratch {params.scratch:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"


rule cross_defects:
    input:
        data=lambda wildcards: data_file(CONFIG.epfl.pools[wildcards.pool].dataset),
    output:
        f"{RESULTS}/measurements/factorial/{{pool}}/{{block}}.csv",
    log:
        f"{LOGS}/measure/factorial/{{pool}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/factorial/{{pool}}/{{block}}.tsv"
    wildcard_constraints:
        pool=alternatives(CONFIG.epfl.factorial),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="4h",
        gpu=GPUS,
    params:
        settings=lambda wildcards: canonical_json(CONFIG.epfl.only(wildcards.pool)),
        device=DEVICE,
        code=code_version("flatness.studies.epfl.factorial"),
        scratch=lambda wildcards: scratch(
            "cross-defects",
            CONFIG.epfl.only(wildcards.pool),
            code_version("flatness.studies.epfl.factorial"),
            wildcards.block,
        ),
    message:
        "Every combination of defects: {wildcards.pool}, seeds {wildcards.block}"
    shell:
        "python -m flatness cross-defects --settings {params.settings:q} --device {params.device}"
        " --data {input.data:q} --seeds {wildcards.block} --scratch {params.scratch:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"


rule measure_chen:
    input:
        data=chen_data,
        final=f"{CHEN_TRAINED}.safetensors",
        trajectory=f"{CHEN_TRAINED}.trajectory.safetensors",
        training=f"{CHEN_TRAINED}.csv",
    output:
        f"{RESULTS}/measurements/chen/{{family}}/{{setting}}/{{block}}.csv",
    log:
        f"{LOGS}/measure/chen/{{family}}/{{setting}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/chen/{{family}}/{{setting}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime="4h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(chen_measurement(wildcards)),
        code=lambda wildcards: chen_code(
            "flatness.studies.chen.measure", wildcards.family
        ),
    message:
        "Measure {wildcards.family}, {wildcards.setting}, seeds {wildcards.block}"
    shell:
        "python -m flatness measure-chen --experiment {params.experiment:q} --data {input.data:q}"
        " --final {input.final:q} --trajectory {input.trajectory:q} --training {input.training:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"


rule measure_transformers:
    input:
        **(
            {
                "data": rules.train_transformers.input.data,
                "checkpoints": rules.train_transformers.output.checkpoints,
            }
            if CONFIG.transformers.trained
            else {}
        ),
    output:
        f"{RESULTS}/measurements/transformers/{{block}}.csv",
    log:
        f"{LOGS}/measure/transformers/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/transformers/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2500 if CONFIG.transformers.trained else 32000,
        runtime="4h" if CONFIG.transformers.trained else "24h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(vit_measurement(wildcards)),
        options=vit_options,
        code=code_version("flatness.studies.transformers.measure"),
        scratch=lambda wildcards: scratch(
            "measure-transformers",
            vit_measurement(wildcards),
            code_version("flatness.studies.transformers.measure"),
            wildcards.block,
        ),
    message:
        "Measure transformers {wildcards.block}"
    shell:
        "python -m flatness measure-transformers --experiment {params.experiment:q}"
        " --scratch {params.scratch:q} --output {output:q} {params.options}"
        " 2> >(tee {log:q} >&2)"


rule measure_cross_chen:
    input:
        data=chen_data,
        final=f"{CHEN_TRAINED}.safetensors",
        training=f"{CHEN_TRAINED}.csv",
    output:
        f"{RESULTS}/measurements/cross/chen/{{family}}/{{setting}}/{{block}}.csv",
    log:
        f"{LOGS}/measure/cross/chen/{{family}}/{{setting}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/cross/chen/{{family}}/{{setting}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="2h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(cross_family(wildcards)),
        code=lambda wildcards: chen_code(
            "flatness.studies.cross.measure_chen", wildcards.family
        ),
    message:
        "Measure worst-case sharpness: {wildcards.family}, {wildcards.setting}, seeds {wildcards.block}"
    shell:
        "python -m flatness measure-cross-chen --experiment {params.experiment:q}"
        " --data {input.data:q} --final {input.final:q} --training {input.training:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"


rule measure_cross_epfl:
    input:
        data=rules.train_epfl.input.data,
        checkpoints=rules.train_epfl.output.checkpoints,
    output:
        f"{RESULTS}/measurements/cross/epfl/{{pool}}/{{trained}}/{{block}}.csv",
    log:
        f"{LOGS}/measure/cross/epfl/{{pool}}/{{trained}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/cross/epfl/{{pool}}/{{trained}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="2h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(cross_pool(wildcards)),
        code=code_version("flatness.studies.cross.measure_epfl"),
    message:
        "Measure compression: {wildcards.pool} ({wildcards.trained}), seeds {wildcards.block}"
    shell:
        "python -m flatness measure-cross-epfl --experiment {params.experiment:q}"
        " --data {input.data:q} --checkpoints {input.checkpoints:q}"
        " --output {output:q} 2> >(tee {log:q} >&2)"
