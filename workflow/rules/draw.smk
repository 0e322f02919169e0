# Figures, from tables only. One rule a figure, named after the paper's own number.


rule draw_epfl_fig1:
    input:
        models=epfl_tables(rules.correlate_epfl.output.models),
        correlations=epfl_tables(rules.correlate_epfl.output.table),
    output:
        png=report(
            picture("epfl_fig1"),
            caption="../flatness/report/captions/epfl_fig1.rst",
            category="Adaptive Sharpness and Generalization",
            labels={"figure": "epfl_fig1"},
        ),
        svg=drawing("epfl_fig1"),
    log:
        f"{LOGS}/draw/epfl_fig1.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        models=repeated("--models", "models"),
        correlations=repeated("--correlations", "correlations"),
        code=version_of("draw-epfl-fig1"),
    message:
        "Draw epfl_fig1"
    shell:
        step(
            "draw-epfl-fig1 --dpi {params.dpi} --png {output.png:q} --svg {output.svg:q}"
            " {params.models} {params.correlations}"
        )


rule draw_epfl_replications:
    input:
        replications=epfl_tables(
            rules.replicate_epfl.output.replications, CONFIG.epfl.replications
        ),
        distributions=epfl_tables(
            rules.replicate_epfl.output.table, CONFIG.epfl.replications
        ),
    output:
        png=report(
            picture("epfl_replications"),
            caption="../flatness/report/captions/epfl_replications.rst",
            category="Adaptive Sharpness and Generalization",
            labels={"figure": "epfl_replications"},
        ),
        svg=drawing("epfl_replications"),
    log:
        f"{LOGS}/draw/epfl_replications.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        replications=repeated("--replications", "replications"),
        distributions=repeated("--distributions", "distributions"),
        code=version_of("draw-epfl-replications"),
    message:
        "Draw epfl_replications"
    shell:
        step(
            "draw-epfl-replications --dpi {params.dpi} --png {output.png:q}"
            " --svg {output.svg:q} {params.replications} {params.distributions}"
        )


rule draw_epfl_audit:
    input:
        audit=rules.audit_epfl.output.table,
        distributions=lambda wildcards: epfl_tables(
            rules.replicate_epfl.output.table,
            [wildcards.pool] if wildcards.pool in CONFIG.epfl.replications else [],
        ),
    output:
        png=report(
            picture("epfl_audit_{pool}"),
            caption="../flatness/report/captions/epfl_audit.rst",
            category="Adaptive Sharpness and Generalization",
            labels={"figure": "epfl_audit_{pool}"},
        ),
        svg=drawing("epfl_audit_{pool}"),
    log:
        f"{LOGS}/draw/epfl_audit_{{pool}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        distributions=repeated("--distributions", "distributions"),
        code=version_of("draw-epfl-audit"),
    message:
        "Draw epfl_audit_{wildcards.pool}"
    shell:
        step(
            "draw-epfl-audit --dpi {params.dpi} --png {output.png:q}"
            " --svg {output.svg:q} --audit {input.audit:q} {params.distributions}"
        )


rule draw_epfl_factorial:
    input:
        cells=rules.defect_effects.output.cells,
        effects=rules.defect_effects.output.effects,
    output:
        png=report(
            picture("epfl_factorial_{pool}"),
            caption="../flatness/report/captions/epfl_factorial.rst",
            category="Adaptive Sharpness and Generalization",
            labels={"figure": "epfl_factorial_{pool}"},
        ),
        svg=drawing("epfl_factorial_{pool}"),
    log:
        f"{LOGS}/draw/epfl_factorial_{{pool}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        code=version_of("draw-epfl-factorial"),
    message:
        "Draw epfl_factorial_{wildcards.pool}"
    shell:
        step(
            "draw-epfl-factorial --dpi {params.dpi} --png {output.png:q}"
            " --svg {output.svg:q} --cells {input.cells:q} --effects {input.effects:q}"
        )


rule epfl:
    input:
        expand(rules.draw_epfl_factorial.output, pool=CONFIG.epfl.factorial),
        rules.draw_epfl_fig1.output,
        rules.draw_epfl_replications.output if CONFIG.epfl.replications else [],
        expand(rules.draw_epfl_audit.output, pool=CONFIG.epfl.audit),
        # The released pools' own correlations, where the audit has all of their models anyway.
        expand(
            rules.correlate_epfl.output,
            pool=CONFIG.epfl.released_pools,
            trained="released",
            measured="released",
        ),
    localrule: True


# Figure -> verb and its options, families in the paper's order. Families the config does not have,
# or has no trends of, are left out; a figure without a family is not a target.
CHEN_FIGURES = {
    "chen_fig1": ("draw-chen-trends --by learning_rate", ["vgg11"]),
    "chen_fig2": ("draw-chen-trends --by batch_size", ["vgg11"]),
    "chen_mlp_lr": ("draw-chen-trends --by learning_rate", ["mlp_tanh"]),
    "chen_mlp_batch": ("draw-chen-trends --by batch_size", ["mlp_tanh"]),
    "chen_fig3": ("draw-chen-fig3", ["mlp_relu", "lenet5", "vgg11"]),
    "chen_scatter_mlp_relu": ("draw-chen-scatter", ["mlp_relu"]),
    "chen_scatter_lenet5": ("draw-chen-scatter", ["lenet5"]),
    "chen_scatter_vgg11": ("draw-chen-scatter", ["vgg11"]),
    "chen_figG5": ("draw-chen-figg5", ["mlp_tanh"]),
    "chen_test_samples": ("draw-chen-test-samples", ["vgg11"]),
    "chen_ten_classes": ("draw-chen-trends --by learning_rate", ["vgg11_ten_classes"]),
    "chen_optimizers": ("draw-chen-trends --by setting", ["optimizers"]),
}
CHEN_FIGURES = {
    figure: (verb, [family for family in families if family in CONFIG.chen.families])
    for figure, (verb, families) in CHEN_FIGURES.items()
    if any(family in CONFIG.chen.families for family in families)
}


if CONFIG.figures.together:

    rule draw_chen:
        input:
            checkpoints=chen_tables(CHEN_FIGURES, "checkpoints"),
            correlations=chen_tables(CHEN_FIGURES, "correlations"),
        output:
            png=[chen_picture(figure) for figure in CHEN_FIGURES],
            svg=[drawing(figure) for figure in CHEN_FIGURES],
        log:
            f"{LOGS}/draw/chen.log",
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
            runtime="10m",
        params:
            steps=chen_steps(CHEN_FIGURES),
            code=version_of_all(verb for verb, _ in CHEN_FIGURES.values()),
        message:
            "Draw the figures of the families"
        shell:
            step("{params.steps}")

else:

    rule draw_chen:
        input:
            checkpoints=lambda wildcards: chen_tables([wildcards.figure], "checkpoints"),
            correlations=lambda wildcards: chen_tables(
                [wildcards.figure], "correlations"
            ),
        output:
            png=chen_picture("{figure}"),
            svg=result(layout.DRAWING),
        log:
            f"{LOGS}/draw/{{figure}}.log",
        wildcard_constraints:
            figure=alternatives(CHEN_FIGURES),
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
            runtime="10m",
        params:
            steps=lambda wildcards: chen_steps([wildcards.figure]),
            code=lambda wildcards: version_of(CHEN_FIGURES[wildcards.figure][0]),
        message:
            "Draw {wildcards.figure}"
        shell:
            step("{params.steps}")


rule chen:
    input:
        [kind(figure) for figure in CHEN_FIGURES for kind in (picture, drawing)],
    localrule: True


rule draw_chen_fig4:
    input:
        models=rules.correlate_transformers.output.models,
        correlations=rules.correlate_transformers.output.table,
    output:
        png=report(
            picture("chen_fig4"),
            caption="../flatness/report/captions/chen_fig4.rst",
            category="Loss flatness and compressed representations",
            labels={"figure": "chen_fig4"},
        ),
        svg=drawing("chen_fig4"),
    log:
        f"{LOGS}/draw/chen_fig4.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        code=version_of("draw-chen-fig4"),
    message:
        "Draw chen_fig4"
    shell:
        step(
            "draw-chen-fig4 --dpi {params.dpi} --models {input.models:q}"
            " --correlations {input.correlations:q} --png {output.png:q} --svg {output.svg:q}"
        )


rule transformers:
    input:
        rules.draw_chen_fig4.output,
    localrule: True


rule draw_cross_measures:
    input:
        rules.correlate_cross.output.table,
    output:
        png=report(
            picture("cross_measures"),
            caption="../flatness/report/captions/cross_measures.rst",
            category="Both papers",
            labels={"figure": "cross_measures"},
        ),
        svg=drawing("cross_measures"),
    log:
        f"{LOGS}/draw/cross_measures.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        dpi=CONFIG.figures.dpi,
        code=version_of("draw-cross-measures"),
    message:
        "Draw cross_measures"
    shell:
        step(
            "draw-cross-measures --dpi {params.dpi} --correlations {input:q}"
            " --png {output.png:q} --svg {output.svg:q}"
        )


rule cross:
    input:
        rules.draw_cross_measures.output,
    localrule: True
