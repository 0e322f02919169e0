# Weights of every model, in blocks of seeds. Killed and started again, a job goes on.


rule train_epfl:
    input:
        data=lambda wildcards: data_file(CONFIG.epfl.pools[wildcards.pool].dataset),
    output:
        checkpoints=f"{RESULTS}/checkpoints/epfl/{{pool}}/{{trained}}/{{block}}.safetensors",
        table=f"{RESULTS}/checkpoints/epfl/{{pool}}/{{trained}}/{{block}}.csv",
    log:
        f"{LOGS}/train/epfl/{{pool}}/{{trained}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/train/epfl/{{pool}}/{{trained}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="4h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(epfl_training(wildcards)),
        code=code_version("flatness.epfl.train"),
        scratch=lambda wildcards: scratch(
            "train-epfl",
            epfl_training(wildcards),
            "flatness.epfl.train",
            wildcards.block,
        ),
    message:
        "Train {wildcards.pool} ({wildcards.trained}), seeds {wildcards.block}"
    shell:
        "python -m flatness train-epfl --experiment {params.experiment:q} --data {input.data:q}"
        " --seeds {wildcards.block} --scratch {params.scratch:q}"
        " --output {output.checkpoints:q} --table {output.table:q} 2> >(tee {log:q} >&2)"


rule train_chen:
    input:
        data=lambda wildcards: data_file(CONFIG.chen.families[wildcards.family].dataset),
    output:
        final=f"{RESULTS}/checkpoints/chen/{{family}}/{{setting}}/{{block}}.safetensors",
        trajectory=(
            lambda path: path if CONFIG.chen.keep_trajectories else temp(path)
        )(
            f"{RESULTS}/checkpoints/chen/{{family}}/{{setting}}/{{block}}.trajectory.safetensors"
        ),
        table=f"{RESULTS}/checkpoints/chen/{{family}}/{{setting}}/{{block}}.csv",
    log:
        f"{LOGS}/train/chen/{{family}}/{{setting}}/{{block}}.log",
    benchmark:
        f"{BENCHMARKS}/train/chen/{{family}}/{{setting}}/{{block}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime="12h",
        gpu=GPUS,
    params:
        experiment=lambda wildcards: canonical_json(chen_training(wildcards)),
        code=code_version("flatness.chen.train"),
        scratch=lambda wildcards: scratch(
            "train-chen",
            chen_training(wildcards),
            "flatness.chen.train",
            wildcards.block,
        ),
    message:
        "Train {wildcards.family}, {wildcards.setting}, seeds {wildcards.block}"
    shell:
        "python -m flatness train-chen --experiment {params.experiment:q} --data {input.data:q}"
        " --seeds {wildcards.block} --scratch {params.scratch:q} --final {output.final:q}"
        " --trajectory {output.trajectory:q} --table {output.table:q} 2> >(tee {log:q} >&2)"


if CONFIG.transformers.trained:

    rule train_transformers:
        input:
            data=data_file(CONFIG.transformers.trained.dataset),
        output:
            checkpoints=f"{RESULTS}/checkpoints/transformers/{{block}}.safetensors",
            table=f"{RESULTS}/checkpoints/transformers/{{block}}.csv",
        log:
            f"{LOGS}/train/transformers/{{block}}.log",
        benchmark:
            f"{BENCHMARKS}/train/transformers/{{block}}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2500,
            runtime="4h",
            gpu=GPUS,
        params:
            experiment=lambda wildcards: canonical_json(vit_training(wildcards)),
            code=code_version("flatness.transformers.train"),
            scratch=lambda wildcards: scratch(
                "train-transformers",
                vit_training(wildcards),
                "flatness.transformers.train",
                wildcards.block,
            ),
        message:
            "Train small transformers {wildcards.block}"
        shell:
            "python -m flatness train-transformers --experiment {params.experiment:q}"
            " --data {input.data:q} --scratch {params.scratch:q}"
            " --output {output.checkpoints:q} --table {output.table:q} 2> >(tee {log:q} >&2)"
