# Figures, from tables only: one rule draws each entry of `flatness.report.figure_list`.


rule draw:
    input:
        lambda wildcards: tables_of([wildcards.figure]),
    output:
        png=reported("{figure}"),
        svg=drawing("{figure}"),
    log:
        f"{LOGS}/draw/{{figure}}.log",
    wildcard_constraints:
        figure=alternatives(DRAWN.keys() - DRAWN_TOGETHER),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        steps=lambda wildcards: drawing_steps([wildcards.figure]),
        code=lambda wildcards: version_of(DRAWN[wildcards.figure].figure.verb),
        captions=lambda wildcards, output: captions_of([wildcards.figure]),
    message:
        "Draw {wildcards.figure}"
    shell:
        step("{params.steps}")


if DRAWN_TOGETHER:

    use rule draw as draw_together with:
        input:
            tables_of(DRAWN_TOGETHER),
        output:
            png=[reported(figure) for figure in DRAWN_TOGETHER],
            svg=[drawing(figure) for figure in DRAWN_TOGETHER],
        log:
            f"{LOGS}/draw/together.log",
        params:
            steps=drawing_steps(DRAWN_TOGETHER),
            code=version_of_all(DRAWN[figure].figure.verb for figure in DRAWN_TOGETHER),
            captions=lambda wildcards, output: captions_of(DRAWN_TOGETHER),
        message:
            "Draw the figures of the families"


rule epfl:
    input:
        figures_of("epfl"),
        # Correlations of the released pools, if the audit has all of their models anyway.
        expand(
            rules.correlate_epfl.output,
            pool=CONFIG.epfl.released_pools,
            trained="released",
            measured="released",
        ),
        epfl_replications(CONFIG.epfl.replications),
    localrule: True


rule chen:
    input:
        figures_of("chen"),
    localrule: True


rule transformers:
    input:
        figures_of("transformers"),
    localrule: True


rule cross:
    input:
        figures_of("cross"),
    localrule: True
