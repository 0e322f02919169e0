# Weights of every model, in blocks of seeds. A job that was killed resumes when it is started again.


rule train_epfl:
    input:
        data=lambda wildcards: data_file(CONFIG.epfl.pools[wildcards.pool].dataset),
    output:
        checkpoints=result(layout.EPFL_WEIGHTS),
        table=result(layout.EPFL_TRAINED),
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
        code=version_of("train-epfl"),
        scratch=lambda wildcards: scratch(
            "train-epfl",
            epfl_training(wildcards),
            version_of("train-epfl"),
            wildcards.block,
        ),
    message:
        "Train {wildcards.pool} ({wildcards.trained}), seeds {wildcards.block}"
    shell:
        step(
            "train-epfl --experiment {params.experiment:q} --data {input.data:q}"
            " --seeds {wildcards.block} --scratch {params.scratch:q}"
            " --output {output.checkpoints:q} --table {output.table:q}"
        )


# A part of a block is already trained if the whole block is.
ruleorder: take_epfl > train_epfl


rule take_epfl:
    input:
        checkpoints=lambda wildcards: epfl_part(
            layout.EPFL_WEIGHTS, EPFL_PARTS[wildcards.part]
        ),
        training=lambda wildcards: epfl_part(
            layout.EPFL_TRAINED, EPFL_PARTS[wildcards.part]
        ),
    output:
        checkpoints=epfl_part(layout.EPFL_WEIGHTS, "{part}"),
        table=epfl_part(layout.EPFL_TRAINED, "{part}"),
    log:
        f"{LOGS}/take/epfl/{{part}}.log",
    wildcard_constraints:
        part=alternatives(EPFL_PARTS),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        seeds=lambda wildcards: Path(wildcards.part).name,
        code=version_of("take-epfl"),
    message:
        "Take {wildcards.part}"
    shell:
        step(
            "take-epfl --checkpoints {input.checkpoints:q} --training {input.training:q}"
            " --seeds {params.seeds} --output {output.checkpoints:q} --table {output.table:q}"
        )


# On a CPU each block is a separate job. On a GPU all models of a family share a job, which makes the
# same files; there, adding a seed retrains the family.
for family in [name for name, kind in CHEN_TRAINED_ON.items() if kind == "cpu"]:

    rule:
        name:
            f"train_chen_{family}"
        input:
            data=chen_data(family),
        output:
            final=chen_files(layout.CHEN_WEIGHTS, family),
            trajectory=chen_trajectory(chen_files(layout.CHEN_TRAJECTORY, family)),
            table=chen_files(layout.CHEN_TRAINED, family),
        log:
            f"{LOGS}/train/chen/{CHEN_JOB[family]}.log",
        benchmark:
            f"{BENCHMARKS}/train/chen/{CHEN_JOB[family]}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime="12h",
        params:
            experiment=chen_experiment(chen_training, family),
            steps=chen_training_steps(family),
            code=chen_code("train-chen", family),
        message:
            f"Train {CHEN_JOB[family].replace('{', '{wildcards.')}"
        shell:
            step("{params.steps}")


for family in [name for name, kind in CHEN_TRAINED_ON.items() if kind == "cuda"]:

    rule:
        name:
            f"train_chen_stacked_{family}"
        input:
            data=chen_data(family),
        output:
            final=chen_family_files(layout.CHEN_WEIGHTS, family),
            trajectory=chen_trajectory(
                chen_family_files(layout.CHEN_TRAJECTORY, family)
            ),
            table=chen_family_files(layout.CHEN_TRAINED, family),
        log:
            f"{LOGS}/train/chen/{family}.log",
        benchmark:
            f"{BENCHMARKS}/train/chen/{family}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=8000,
            runtime="24h",
            gpu=1,
        params:
            experiment=canonical_json(chen_family_training(family)),
            code=chen_code("train-chen-stacked", family),
            scratch=scratch(
                "train-chen-stacked",
                chen_family_training(family),
                chen_code("train-chen-stacked", family),
                family,
            ),
            checkpoints=lambda wildcards, output: str(Path(output.final[0]).parents[1]),
        message:
            f"Train all models of {family} together"
        shell:
            step(
                "train-chen-stacked --experiment {params.experiment:q}"
                " --data {input.data:q} --scratch {params.scratch:q}"
                " --checkpoints {params.checkpoints:q}"
            )


if CONFIG.transformers.trained:

    rule train_transformers:
        input:
            data=data_file(CONFIG.transformers.trained.dataset),
        output:
            checkpoints=result(layout.VIT_WEIGHTS),
            table=result(layout.VIT_TRAINED),
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
            code=version_of("train-transformers"),
            scratch=lambda wildcards: scratch(
                "train-transformers",
                vit_training(wildcards),
                version_of("train-transformers"),
                wildcards.block,
            ),
        message:
            "Train small transformers {wildcards.block}"
        shell:
            step(
                "train-transformers --experiment {params.experiment:q}"
                " --data {input.data:q} --scratch {params.scratch:q}"
                " --output {output.checkpoints:q} --table {output.table:q}"
            )
