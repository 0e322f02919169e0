# The ledger, the page and the notebooks, made only from tables and figures.


rule report:
    input:
        # The collectors of the studies: every figure, and every table the claims read.
        studies=[
            *rules.epfl.input,
            *rules.chen.input,
            *rules.transformers.input,
            *rules.cross.input,
        ],
        comparisons=expand(rules.contrast_chen.output, family=CONFIG.chen.families),
        scales=expand(rules.compare_scales.output, scale=CONFIG.chen.scales),
        claims=str(LIBRARY / "flatness/report/claims.yaml"),
        template=str(LIBRARY / "flatness/report/page.html.j2"),
    output:
        ledger=result(layout.LEDGER),
        html=result(layout.PAGE),
    log:
        f"{LOGS}/report/report.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        results=lambda wildcards, output: Path(output.html).parent,
        code=version_of("report"),
    message:
        "Report: ledger and page"
    shell:
        step(
            "report --results {params.results:q} --claims {input.claims:q}"
            " --ledger {output.ledger:q} --html {output.html:q}"
        )


rule explore:
    input:
        studies=rules.report.input.studies,
        ledger=rules.report.output.ledger,
        claims=rules.report.input.claims,
        sources=[
            str(LIBRARY / "flatness/report" / name)
            for name in ("explore.html.j2", "explore.js")
        ],
    output:
        result(layout.EXPLORABLE),
    log:
        f"{LOGS}/report/explore.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        results=lambda wildcards, output: Path(output[0]).parent,
        code=version_of("explore"),
    message:
        "Explorable page"
    shell:
        step(
            "explore --results {params.results:q} --claims {input.claims:q}"
            " --output {output:q}"
        )


rule dictionary:
    output:
        result(layout.DICTIONARY),
    log:
        f"{LOGS}/report/dictionary.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=version_of("dictionary"),
    message:
        "Data dictionary"
    shell:
        step("dictionary --output {output:q}")


rule notebook:
    input:
        ledger=rules.report.output.ledger,
        notebook=str(HOME / "notebooks/{paper}.ipynb"),
    output:
        result(layout.NOTEBOOK),
    log:
        f"{LOGS}/report/notebook_{{paper}}.log",
    wildcard_constraints:
        paper="chen|epfl",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        code=code_version("flatness.report.notebook"),
        results=lambda wildcards, output: Path(output[0]).parents[1],
    message:
        "Run notebook {wildcards.paper}"
    # The empty addresses keep the page from loading scripts that it does not need.
    shell:
        "FLATNESS_RESULTS=$(realpath {params.results:q}) jupyter nbconvert --log-level=WARN --execute"
        " --to html --HTMLExporter.mathjax_url= --HTMLExporter.require_js_url="
        " --output-dir $(dirname {output:q}) --output $(basename {output:q}) {input.notebook:q}"
        " > {log:q} 2>&1"


rule reports:
    input:
        rules.report.output,
        rules.explore.output,
        rules.dictionary.output,
        expand(rules.notebook.output, paper=["chen", "epfl"]),
    localrule: True
