# Sharpness and compression of every checkpoint, measured as soon as it is trained. So a run that ends
# early leaves tables from which another machine can continue without the weights.


rule measure_epfl:
    input:
        data=rules.train_epfl.input.data,
        checkpoints=rules.train_epfl.output.checkpoints,
    output:
        result(layout.EPFL_MEASURED),
    log:
        f"{LOGS}/measure/epfl/{{pool}}/{{trained}}/{{measured}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/epfl/{{pool}}/{{trained}}/{{measured}}/{{block}}.tsv"
    priority: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="4h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(epfl_measurement(**wildcards)),
        code=version_of("measure-epfl"),
        scratch=lambda wildcards: scratch(
            "measure-epfl",
            epfl_measurement(**wildcards),
            version_of("measure-epfl"),
            wildcards.block,
        ),
    message:
        "Measure {wildcards.pool} ({wildcards.trained}, {wildcards.measured}), seeds {wildcards.block}"
    shell:
        step(
            "measure-epfl --experiment {params.experiment:q} --data {input.data:q}"
            " --checkpoints {input.checkpoints:q} --scratch {params.scratch:q}"
            " --output {output:q}"
        )


rule cross_defects:
    input:
        data=lambda wildcards: data_file(CONFIG.epfl.pools[wildcards.pool].dataset),
    output:
        result(layout.FACTORIAL_MEASURED),
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
        code=version_of("cross-defects"),
        scratch=lambda wildcards: scratch(
            "cross-defects",
            CONFIG.epfl.only(wildcards.pool),
            version_of("cross-defects"),
            wildcards.block,
        ),
    message:
        "Every combination of defects: {wildcards.pool}, seeds {wildcards.block}"
    shell:
        step(
            "cross-defects --settings {params.settings:q} --device {params.device}"
            " --data {input.data:q} --seeds {wildcards.block} --scratch {params.scratch:q}"
            " --output {output:q}"
        )


if EPFL_AUDITED_TOGETHER:

    ruleorder: measure_audit > measure_epfl

    rule measure_audit:
        input:
            data=[
                data_file(CONFIG.epfl.pools[pool].dataset)
                for pool, *_ in EPFL_AUDITED_TOGETHER
            ],
            checkpoints=epfl_audited_together(rules.train_epfl.output.checkpoints),
        output:
            epfl_audited_together(rules.measure_epfl.output[0]),
        log:
            f"{LOGS}/measure/audit.log",
        benchmark:
            f"{BENCHMARKS}/measure/epfl/audit.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime="4h",
            gpu=GPUS,
        params:
            experiment=[
                canonical_json(epfl_measurement(*one)) for one in EPFL_AUDITED_TOGETHER
            ],
            steps=epfl_audit_steps,
            code=version_of("measure-epfl"),
        message:
            "Measure what the audits need"
        shell:
            step("{params.steps}")


for family in CONFIG.chen.families:

    rule:
        name:
            f"measure_chen_{family}"
        input:
            data=chen_data(family),
            final=chen_files(layout.CHEN_WEIGHTS, family),
            trajectory=chen_files(layout.CHEN_TRAJECTORY, family),
            training=chen_files(layout.CHEN_TRAINED, family),
        output:
            chen_files(layout.CHEN_MEASURED, family),
        log:
            f"{LOGS}/measure/chen/{CHEN_JOB[family]}.log",
        benchmark:
            f"{BENCHMARKS}/measure/chen/{CHEN_JOB[family]}.tsv"
        priority: 1
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=3000,
            runtime="4h",
            gpu=GPUS,
        params:
            experiment=chen_experiment(chen_measurement, family),
            steps=chen_measuring_steps(family),
            code=chen_code("measure-chen", family),
        message:
            f"Measure {CHEN_JOB[family].replace('{', '{wildcards.')}"
        shell:
            step("{params.steps}")


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
        result(layout.VIT_MEASURED),
    log:
        f"{LOGS}/measure/transformers/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/transformers/{{block}}.tsv"
    priority: 1
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
        code=version_of("measure-transformers"),
        scratch=lambda wildcards: scratch(
            "measure-transformers",
            vit_measurement(wildcards),
            version_of("measure-transformers"),
            wildcards.block,
        ),
    message:
        "Measure transformers {wildcards.block}"
    shell:
        step(
            "measure-transformers --experiment {params.experiment:q}"
            " --scratch {params.scratch:q} --output {output:q} {params.options}"
        )


for family in CONFIG.cross.families:

    rule:
        name:
            f"measure_cross_chen_{family}"
        input:
            data=chen_data(family),
            final=chen_files(layout.CHEN_WEIGHTS, family),
            training=chen_files(layout.CHEN_TRAINED, family),
        output:
            chen_files(layout.CROSS_CHEN_MEASURED, family),
        log:
            f"{LOGS}/measure/cross/chen/{CHEN_JOB[family]}.log",
        benchmark:
            f"{BENCHMARKS}/measure/cross/chen/{CHEN_JOB[family]}.tsv"
        priority: 1
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime="2h",
            gpu=GPUS,
        params:
            experiment=chen_experiment(cross_family, family),
            steps=cross_family_steps(family),
            code=chen_code("measure-cross-chen", family),
        message:
            f"Measure worst-case sharpness: {CHEN_JOB[family].replace('{', '{wildcards.')}"
        shell:
            step("{params.steps}")


rule measure_cross_epfl:
    input:
        data=rules.train_epfl.input.data,
        checkpoints=rules.train_epfl.output.checkpoints,
    output:
        result(layout.CROSS_EPFL_MEASURED),
    log:
        f"{LOGS}/measure/cross/epfl/{{pool}}/{{trained}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/measure/cross/epfl/{{pool}}/{{trained}}/{{block}}.tsv"
    priority: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="2h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(cross_pool(wildcards)),
        code=version_of("measure-cross-epfl"),
    message:
        "Measure compression: {wildcards.pool} ({wildcards.trained}), seeds {wildcards.block}"
    shell:
        step(
            "measure-cross-epfl --experiment {params.experiment:q}"
            " --data {input.data:q} --checkpoints {input.checkpoints:q}"
            " --output {output:q}"
        )
