# Correlations over the models of a pool or grid, each with its interval and p-values.


rule correlate_epfl:
    input:
        training=epfl_blocks(rules.train_epfl.output.table),
        measurements=epfl_blocks(rules.measure_epfl.output[0]),
    output:
        models=result(layout.POOL_MODELS),
        table=result(layout.POOL_CORRELATIONS),
        ranges=result(layout.POOL_RANGES),
    log:
        f"{LOGS}/correlate/epfl/{{pool}}/{{trained}}/{{measured}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        training=repeated("--training", "training"),
        measurements=repeated("--measurements", "measurements"),
        code=version_of("correlate-epfl"),
    message:
        "Correlate sharpness with test loss: {wildcards.pool} ({wildcards.trained}, {wildcards.measured})"
    shell:
        step(
            "correlate-epfl --pool {wildcards.pool}"
            " --trained {wildcards.trained} --measured {wildcards.measured}"
            " --statistics {params.statistics:q} --models {output.models:q} --output {output.table:q}"
            " --published {output.ranges:q} {params.training} {params.measurements}"
        )


rule replicate_epfl:
    input:
        training=epfl_blocks(rules.train_epfl.output.table, replicated_blocks),
        measurements=epfl_blocks(rules.measure_epfl.output[0], replicated_blocks),
    output:
        models=result(layout.REPLICATED_MODELS),
        replications=result(layout.REPLICATIONS),
        table=result(layout.DISTRIBUTION),
    log:
        f"{LOGS}/replicate/{{pool}}/{{trained}}/{{measured}}.log",
    wildcard_constraints:
        pool=alternatives(CONFIG.epfl.replications),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        size=lambda wildcards: CONFIG.epfl.pools[wildcards.pool].models,
        statistics=canonical_json(CONFIG.statistics),
        training=repeated("--training", "training"),
        measurements=repeated("--measurements", "measurements"),
        code=version_of("replicate-epfl"),
    message:
        "Distribution of τ over replications: {wildcards.pool} ({wildcards.trained}, {wildcards.measured})"
    shell:
        step(
            "replicate-epfl --pool {wildcards.pool} --size {params.size}"
            " --trained {wildcards.trained} --measured {wildcards.measured}"
            " --statistics {params.statistics:q} --models {output.models:q}"
            " --replications {output.replications:q} --output {output.table:q}"
            " {params.training} {params.measurements}"
        )


rule audit_epfl:
    input:
        training=epfl_audited(rules.train_epfl.output.table),
        measurements=epfl_audited(rules.measure_epfl.output[0]),
    output:
        models=result(layout.AUDITED_MODELS),
        table=result(layout.AUDIT),
        released=result(layout.AUDITED_SOURCE),
    log:
        f"{LOGS}/audit/{{pool}}.log",
    wildcard_constraints:
        pool=alternatives(CONFIG.epfl.audit),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        plan=lambda wildcards: canonical_json(CONFIG.epfl.audit_plan(wildcards.pool)),
        statistics=canonical_json(CONFIG.statistics),
        training=lambda wildcards, input: str(Path(input.training[0]).parents[1]),
        measurements=lambda wildcards, input: str(
            Path(input.measurements[0]).parents[2]
        ),
        code=version_of("audit-epfl"),
    message:
        "Audit {wildcards.pool}: written, strong, released, each defect alone"
    shell:
        step(
            "audit-epfl --plan {params.plan:q}"
            " --statistics {params.statistics:q} --training {params.training:q}"
            " --measurements {params.measurements:q} --models {output.models:q}"
            " --output {output.table:q} --released {output.released:q}"
        )


rule defect_effects:
    input:
        models=epfl_blocks(
            rules.cross_defects.output[0],
            lambda wildcards: CONFIG.epfl.factorial[wildcards.pool].blocks,
        ),
    output:
        cells=result(layout.FACTORIAL_CELLS),
        effects=result(layout.FACTORIAL_EFFECTS),
    log:
        f"{LOGS}/correlate/factorial/{{pool}}.log",
    wildcard_constraints:
        pool=alternatives(CONFIG.epfl.factorial),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        models=repeated("--models", "models"),
        code=version_of("defect-effects"),
    message:
        "Effects of the defects: {wildcards.pool}"
    shell:
        step(
            "defect-effects --statistics {params.statistics:q} {params.models}"
            " --cells {output.cells:q} --output {output.effects:q}"
        )


rule correlate_chen:
    input:
        measurements=chen_blocks,
    output:
        checkpoints=result(layout.CHEN_CHECKPOINTS),
        correlations=result(layout.CHEN_CORRELATIONS),
        bounds=result(layout.BOUNDS),
    log:
        f"{LOGS}/correlate/chen/{{family}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        measurements=repeated("--measurements", "measurements"),
        code=version_of("correlate-chen"),
    message:
        "Correlate the measures of {wildcards.family}"
    shell:
        step(
            "correlate-chen --statistics {params.statistics:q}"
            " --checkpoints {output.checkpoints:q} --correlations {output.correlations:q}"
            " --bounds {output.bounds:q} {params.measurements}"
        )


rule contrast_chen:
    input:
        result(layout.CHEN_CHECKPOINTS),
    output:
        contrasts=result(layout.CONTRASTS),
        effects=result(layout.EFFECTS),
        changes=result(layout.CHANGES),
    log:
        f"{LOGS}/correlate/chen/{{family}}/contrasts.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        code=version_of("contrast-chen"),
    message:
        "Compare settings, gaps and ends of training: {wildcards.family}"
    shell:
        step(
            "contrast-chen --statistics {params.statistics:q} --checkpoints {input:q}"
            " --output {output.contrasts:q} --effects {output.effects:q}"
            " --changes {output.changes:q}"
        )


rule compare_scales:
    input:
        lambda wildcards: expand(
            result(layout.CHEN_CHECKPOINTS),
            family=CONFIG.chen.scales[wildcards.scale],
        ),
    output:
        result(layout.SCALE),
    log:
        f"{LOGS}/correlate/scale/{{scale}}.log",
    wildcard_constraints:
        scale=alternatives(CONFIG.chen.scales),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        checkpoints=lambda wildcards, input: " ".join(
            f"--checkpoints {shlex.quote(path)}" for path in input
        ),
        code=version_of("compare-scales"),
    message:
        "Correlations on more and more training images: {wildcards.scale}"
    shell:
        step(
            "compare-scales --statistics {params.statistics:q} --scale {wildcards.scale}"
            " {params.checkpoints} --output {output:q}"
        )


rule correlate_transformers:
    input:
        measurements=expand(
            rules.measure_transformers.output, block=CONFIG.transformers.blocks
        ),
    output:
        models=result(layout.VIT_MODELS),
        table=result(layout.VIT_CORRELATIONS),
    log:
        f"{LOGS}/correlate/transformers.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        measurements=repeated("--measurements", "measurements"),
        code=version_of("correlate-transformers"),
    message:
        "Correlate average-case sharpness of transformers with normalized MLS and test loss"
    shell:
        step(
            "correlate-transformers --statistics {params.statistics:q}"
            " --models {output.models:q} --output {output.table:q} {params.measurements}"
        )


rule correlate_cross:
    input:
        checkpoints=expand(
            rules.correlate_chen.output.checkpoints, family=CONFIG.cross.families
        ),
        pools=epfl_tables(rules.correlate_epfl.output.models),
        measurements=cross_tables,
    output:
        models=result(layout.CROSS_MODELS),
        table=result(layout.CROSS_CORRELATIONS),
    log:
        f"{LOGS}/correlate/cross.log",
    benchmark:
        f"{BENCHMARKS}/correlate/cross/correlations.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="30m",
    params:
        statistics=canonical_json(CONFIG.statistics),
        checkpoints=repeated("--checkpoints", "checkpoints"),
        pools=repeated("--pools", "pools"),
        measurements=repeated("--measurements", "measurements"),
        code=version_of("correlate-cross"),
    message:
        "Correlate every measure of both papers with test loss and gap"
    shell:
        step(
            "correlate-cross --statistics {params.statistics:q}"
            " --models {output.models:q} --output {output.table:q}"
            " {params.checkpoints} {params.pools} {params.measurements}"
        )
