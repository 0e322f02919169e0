# Data sets, downloaded, read from a mirror or (demo) generated: verified and normalised.


rule fetch:
    output:
        data_file("{dataset}"),
    log:
        "data/logs/{dataset}.log",
    retries: 2
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=lambda wildcards: code_version(
            "flatness.datasets.fetch", dataset_module(wildcards.dataset)
        ),
    message:
        "Fetch {wildcards.dataset}"
    shell:
        "python -m flatness fetch --dataset {wildcards.dataset} --output {output:q}"
        " 2> >(tee {log:q} >&2)"
