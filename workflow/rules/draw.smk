# Figures, from tables only. One rule a figure, named after the paper's own number.


rule draw_epfl_fig1:
    input:
        models=epfl_tables(rules.correlate_epfl.output.models),
        correlations=epfl_tables(rules.correlate_epfl.output.table),
    output:
        png=report(
            f"{RESULTS}/figures/epfl_fig1.png",
            caption="../report/epfl_fig1.rst",
            category="Adaptive Sharpness and Generalization",
            labels={"figure": "epfl_fig1"},
        ),
        svg=f"{RESULTS}/figures/epfl_fig1.svg",
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
        code=code_version("flatness.epfl.draw"),
    message:
        "Draw epfl_fig1"
    shell:
        "python -m flatness draw-epfl-fig1 --dpi {params.dpi} --png {output.png:q} --svg {output.svg:q}"
        " {params.models} {params.correlations} 2> >(tee {log:q} >&2)"


rule epfl:
    input:
        rules.draw_epfl_fig1.output,
    localrule: True
